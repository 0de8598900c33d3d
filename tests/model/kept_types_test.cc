// GGUF blocks that stay codes: the folder's weights are what dequantising the file gives, bit for
// bit, and what has no exact codes stays numbers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "model/convert.h"
#include "model/golden_gguf.h"
#include "model/quantized_tensors.h"
#include "support/temporary_folder.h"
#include "tensor/dtype.h"

namespace erne {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using namespace testing_support;  // NOLINT

const fs::path kGoldens = fs::path(ERNE_TESTS_DIR) / "goldens/text";
constexpr uint32_t kQ4_0 = 2;  // NOLINT(readability-identifier-naming)
constexpr uint32_t kQ4_1 = 3;  // NOLINT(readability-identifier-naming)
constexpr uint32_t kQ8_0 = 8;  // NOLINT(readability-identifier-naming)

// Blocks of 32 with scales (and minima) of both signs; the codes take every value but Q8_0's -128.
GgufData blocks(uint32_t type, size_t values) {
  GgufData data{type, {}};
  uint32_t random = type;
  const auto next = [&] { return (random = random * 1664525U + 1013904223U) >> 16; };
  for (size_t block = 0; block < values / 32; ++block) {
    for (uint32_t i = 0; i < (type == kQ4_1 ? 2U : 1U); ++i) {
      const auto part = static_cast<float>(next() % 2001) - 1000.0F;
      GgufBuilder::put(data.bytes, to_f16(part / 100000.0F));
    }
    for (int i = 0; i < (type == kQ8_0 ? 32 : 16); ++i) {
      const auto byte = static_cast<uint8_t>(next());
      data.bytes.push_back(static_cast<char>(type == kQ8_0 && byte == 0x80 ? 0 : byte));
    }
  }
  return data;
}

// Another type for each of q, k and v; vectors, the router and rows that are no whole blocks F32.
GgufData mixed_types(const std::string& name, const std::vector<float>& values) {
  const auto has = [&](const char* part) { return name.find(part) != std::string::npos; };
  if (has("norm") || has("gate_inp") || has("exp_probs") || has("ffn_down"))
    return as_f32(name, values);
  if (has("attn_q")) return blocks(kQ4_0, values.size());
  if (has("token_embd") || has("attn_v") || name == "output.weight")
    return blocks(kQ8_0, values.size());
  GgufData data = blocks(has("attn_output") ? kQ8_0 : kQ4_1, values.size());
  if (has("attn_output")) data.bytes[2] = '\x80';
  return data;
}

class KeptTypes : public testing::Test {
 protected:
  void convert_golden(const char* golden, const char* architecture) {
    GgufBuilder gguf = golden_gguf(*Checkpoint::open(kGoldens / golden), architecture, mixed_types);
    small_tokenizer(gguf).write(folder_ / "model.gguf");
    convert({.input = folder_ / "model.gguf", .output = folder_ / "plain", .dtype = DType::kF32});
    // Several shards, so that the index must name scales and minima too.
    result_ = convert({.input = folder_ / "model.gguf",
                       .output = folder_ / "kept",
                       .dtype = DType::kF32,
                       .keep_types = true,
                       .max_shard_bytes = 50'000});
    plain_ = Checkpoint::open(folder_ / "plain");
    kept_ = Checkpoint::open(folder_ / "kept");
  }

  // Returns how many weights are codes.
  int64_t expect_same_weights() {
    int64_t num_codes = 0;
    std::vector<ExpectedTensor> tensors = expected_tensors(plain_->config());
    const bool tied = plain_->config().tie_word_embeddings;
    const ExpectedTensor& embedding = tensors.front();
    if (tied)
      tensors.push_back({"lm_head.weight", TensorKind::kLinear, embedding.rows, embedding.cols});
    for (const ExpectedTensor& tensor : tensors) {
      const bool head = tied && tensor.name == "lm_head.weight";
      const std::vector<float> wanted = rows_of(*plain_, head ? embedding : tensor);
      const auto codes = kept_->codes(tensor.name);
      if (codes == nullptr) {
        EXPECT_EQ(rows_of(*kept_, tensor), wanted) << tensor.name;
        continue;
      }
      ++num_codes;
      std::vector<float> values(wanted.size());
      for (int64_t r = 0; r < tensor.rows; ++r)
        dequantize_row(*codes, r, values.data() + r * tensor.cols);
      EXPECT_EQ(values, wanted) << tensor.name;
    }
    return num_codes;
  }

  TemporaryFolder folder_;
  ConvertResult result_;
  std::unique_ptr<Checkpoint> plain_, kept_;
};

TEST_F(KeptTypes, GiveTheNumbersOfTheFile) {
  for (const auto& [golden, architecture] :
       {std::pair{"dense-tied", "llama"}, std::pair{"moe", "ernie4_5-moe"}}) {
    SCOPED_TRACE(golden);
    fs::remove_all(folder_ / "plain");
    fs::remove_all(folder_ / "kept");
    convert_golden(golden, architecture);
    EXPECT_EQ(expect_same_weights(), result_.num_quantized);
    EXPECT_GT(result_.num_files, 1);
    const std::string layer = "model.layers.0.self_attn.";
    EXPECT_EQ(kept_->codes(layer + "q_proj.weight")->format(),
              (CodeFormat{CodeType::kInt4, 32, false, DType::kF16}));
    EXPECT_EQ(kept_->codes(layer + "k_proj.weight")->format(),
              (CodeFormat{CodeType::kInt4, 32, true, DType::kF16}));
    EXPECT_EQ(kept_->codes("lm_head.weight")->format(),
              (CodeFormat{CodeType::kInt8, 32, false, DType::kF16}));
    EXPECT_EQ(kept_->codes(layer + "o_proj.weight"), nullptr) << "holds -128";
    EXPECT_EQ(kept_->codes("model.embed_tokens.weight"), nullptr);
  }
  EXPECT_NE(kept_->codes("model.layers.1.mlp.experts.7.up_proj.weight"), nullptr);
  EXPECT_EQ(kept_->codes("model.layers.1.mlp.experts.7.down_proj.weight"), nullptr);
  EXPECT_EQ(kept_->codes("model.layers.1.mlp.gate.weight"), nullptr);
}

TEST_F(KeptTypes, StandInTheConfiguration) {
  convert_golden("dense-tied", "ernie4_5");
  const Json json = parse_json(read_file(folder_ / "kept/config.json"), "config.json");
  const Json& quantization = json["quantization_config"];
  EXPECT_EQ(quantization["quant_method"], "erne");
  EXPECT_EQ(quantization["plan"], "as in the GGUF file");
  const Json& schemes = quantization["schemes"];
  EXPECT_EQ(schemes.size(), 3U);
  EXPECT_EQ(schemes["Q8_0"].get<int>() + schemes["Q4_0"].get<int>() + schemes["Q4_1"].get<int>(),
            result_.num_quantized);
  EXPECT_GE(schemes["Q8_0"], 1);
  EXPECT_FALSE(parse_json(read_file(folder_ / "plain/config.json"), "config.json")
                   .contains("quantization_"
                             "config"));
}

TEST_F(KeptTypes, NumbersAloneMakeNoQuantisedFolder) {
  GgufBuilder gguf = golden_gguf(*Checkpoint::open(kGoldens / "dense-tied"), "llama");
  small_tokenizer(gguf).write(folder_ / "model.gguf");
  convert({.input = folder_ / "model.gguf", .output = folder_ / "out", .keep_types = true});
  EXPECT_EQ(Checkpoint::open(folder_ / "out")->config().quant_method, "");
}

TEST_F(KeptTypes, AreRefusedWhereNothingCouldKeepThem) {
  const auto message = [&](const ConvertOptions& options) -> std::string {
    try {
      convert(options);
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  };
  GgufBuilder gguf = golden_gguf(*Checkpoint::open(kGoldens / "dense-tied"), "llama");
  small_tokenizer(gguf).write(folder_ / "model.gguf");
  EXPECT_THAT(message({.input = folder_ / "model.gguf",
                       .output = folder_ / "out",
                       .layout = CheckpointLayout::kPaddle,
                       .keep_types = true}),
              HasSubstr("in layout pt only, not in paddle"));
  EXPECT_THAT(message({.input = kGoldens / "moe", .output = folder_ / "out", .keep_types = true}),
              HasSubstr("is a folder; only the types of GGUF files can be kept"));
}

}  // namespace
}  // namespace erne
