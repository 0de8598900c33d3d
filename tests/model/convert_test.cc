// Conversions: PT -> every layout -> PT keeps every bit, every layout opens to the same matrices,
// and GGUF files (built here from the goldens) become folders with the same weights and a tokenizer
// that gives the goldens' ids.
#include "model/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "model/gguf_tokenizer.h"
#include "model/golden_gguf.h"
#include "model/layout.h"
#include "support/gguf_builder.h"
#include "support/temporary_folder.h"
#include "tensor/safetensors.h"
#include "token/tokenizer.h"

namespace erne {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing_support::bytes_of;
using testing_support::GgufBuilder;
using testing_support::golden_gguf;
using testing_support::rows_of;
using testing_support::small_tokenizer;
using testing_support::TemporaryFolder;

const fs::path kGoldens = fs::path(ERNE_TESTS_DIR) / "goldens";
constexpr std::array<CheckpointLayout, 4> kLayouts{
    CheckpointLayout::kPt, CheckpointLayout::kEarlyPt, CheckpointLayout::kPaddle,
    CheckpointLayout::kStacked};
constexpr std::array<const char*, 4> kCases{"dense-tied", "dense-bias", "moe", "moe-sharded"};

// Bitwise: -0 and 0 differ.
void expect_same_matrices(const Checkpoint& a, const Checkpoint& b) {
  for (const ExpectedTensor& tensor : expected_tensors(a.config())) {
    const std::vector<float> x = rows_of(a, tensor);
    const std::vector<float> y = rows_of(b, tensor);
    ASSERT_EQ(std::memcmp(x.data(), y.data(), x.size() * 4), 0) << tensor.name;
  }
}

TEST(Convert, RoundTripsKeepEveryBit) {
  for (const char* name : kCases) {
    const fs::path input = kGoldens / "text" / name;
    const auto original = Checkpoint::open(input);
    for (const CheckpointLayout layout : kLayouts) {
      SCOPED_TRACE(fmt::format("{} {}", name, layout_name(layout)));
      TemporaryFolder folder;
      convert({.input = input, .output = folder / "there", .layout = layout});
      const auto there = Checkpoint::open(folder / "there");
      const bool dense = !original->config().is_moe();
      const bool plain = dense && layout == CheckpointLayout::kStacked;
      EXPECT_EQ(there->layout(), plain ? CheckpointLayout::kPt : layout);
      expect_same_matrices(*original, *there);
      convert({.input = folder / "there", .output = folder / "back", .max_shard_bytes = 300'000});
      const auto back = Checkpoint::open(folder / "back");
      EXPECT_EQ(back->layout(), CheckpointLayout::kPt);
      EXPECT_TRUE(fs::exists(folder / "back/model.safetensors.index.json"));
      EXPECT_TRUE(fs::exists(folder / "back/generation_config.json"));
      expect_same_matrices(*original, *back);
      EXPECT_EQ(original->entries().size(), back->entries().size());
    }
  }
}

TEST(Convert, WritesSamplingDefaultsBesideWhatWasThere) {
  TemporaryFolder folder;
  const fs::path input = kGoldens / "text/dense-tied";
  convert({.input = input, .output = folder / "out", .temperature = 0.25, .top_p = 0.5});
  const auto before = Checkpoint::open(input);
  const auto after = Checkpoint::open(folder / "out");
  EXPECT_EQ(after->generation_config().temperature, 0.25);
  EXPECT_EQ(after->generation_config().top_p, 0.5);
  EXPECT_EQ(after->generation_config().do_sample, true);
  EXPECT_EQ(after->generation_config().eos_ids, before->generation_config().eos_ids);
}

// What each layout looks like on disk (spec text.md 2.4), so that reader and writer cannot be wrong
// together.
TEST(Convert, LayoutsLookAsSpecified) {
  TemporaryFolder folder;
  const fs::path input = kGoldens / "text/moe";
  const auto entry = [&](const char* out, const std::string& name) {
    for (const auto& e : Checkpoint::open(folder / out)->entries()) {
      if (e.name == name) return fmt::format("{} {}", dtype_name(e.dtype), fmt::join(e.shape, "x"));
    }
    return std::string("absent");
  };
  convert({.input = input, .output = folder / "early", .layout = CheckpointLayout::kEarlyPt});
  EXPECT_EQ(entry("early", "model.layers.0.self_attn.qkv_proj.weight"), "float32 128x64");
  EXPECT_EQ(entry("early", "model.layers.0.mlp.up_gate_proj.weight"), "float32 384x64");
  EXPECT_EQ(entry("early", "model.layers.1.mlp.experts.3.up_gate_proj.weight"), "float32 96x64");
  convert({.input = input,
           .output = folder / "paddle",
           .layout = CheckpointLayout::kPaddle,
           .dtype = DType::kBF16});
  EXPECT_EQ(entry("paddle", "ernie.embed_tokens.weight"), "uint16 512x64");
  EXPECT_EQ(entry("paddle", "ernie.layers.0.self_attn.qkv_proj.weight"), "uint16 64x128");
  EXPECT_EQ(entry("paddle", "ernie.layers.0.mlp.down_proj.weight"), "uint16 192x64");
  EXPECT_EQ(entry("paddle", "ernie.layers.1.mlp.shared_experts.up_gate_proj.weight"),
            "uint16 64x192");
  EXPECT_EQ(entry("paddle", "ernie.layers.1.mlp.gate.weight"), "float32 64x8");
  EXPECT_EQ(entry("paddle", "ernie.layers.1.mlp.moe_statics.e_score_correction_bias"),
            "float32 1x8");
  convert({.input = input, .output = folder / "stacked", .layout = CheckpointLayout::kStacked});
  EXPECT_EQ(entry("stacked", "model.layers.1.mlp.experts.gate_up_proj"), "float32 8x96x64");
  EXPECT_EQ(entry("stacked", "model.layers.1.mlp.experts.down_proj"), "float32 8x64x48");
  EXPECT_EQ(entry("stacked", "model.layers.1.mlp.gate.moe_statics.e_score_correction_bias"),
            "float32 1x8");
  // Values: row 0 of up_proj is row M of the fused tensor; Paddle stores it as column M.
  const auto original = Checkpoint::open(input);
  const MatrixView up = original->matrix("model.layers.0.mlp.up_proj.weight", 192, 64);
  const SafetensorsFile early = SafetensorsFile::open(folder / "early/model.safetensors");
  const std::byte* fused = early.find("model.layers.0.mlp.up_gate_proj.weight")->data;
  EXPECT_EQ(std::memcmp(fused + size_t{192} * 64 * 4, up.data, 64 * 4), 0);
  const SafetensorsFile paddle = SafetensorsFile::open(folder / "paddle/model.safetensors");
  const std::byte* turned = paddle.find("ernie.layers.0.mlp.up_gate_proj.weight")->data;
  std::vector<float> row(64);
  read_row_f32(up, 0, row.data());
  for (size_t i = 0; i < 64; ++i) {
    bf16 value;
    std::memcpy(&value, turned + (i * 384 + 192) * 2, 2);
    EXPECT_EQ(value.bits, to_bf16(row[i]).bits);
  }
}

TEST(Convert, ChangesTypes) {
  TemporaryFolder folder;
  for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
    const std::string name(dtype_name(dtype));
    const ConvertResult result = convert({.input = kGoldens / "text/moe",
                                          .output = folder / name.c_str(),
                                          .dtype = dtype,
                                          .name = "A name"});
    EXPECT_EQ(result.dtype, dtype);
    const auto checkpoint = Checkpoint::open(folder / name.c_str());
    EXPECT_EQ(checkpoint->config().dtype, dtype);
    EXPECT_EQ(checkpoint->config().name, "A name");
    EXPECT_EQ(checkpoint->dtype("model.norm.weight"), dtype);
    EXPECT_EQ(checkpoint->dtype("model.layers.1.mlp.gate.weight"), DType::kF32);
    EXPECT_EQ(checkpoint->dtype("model.layers.1.mlp.moe_statics.e_score_correction_bias"),
              DType::kF32);
  }
}

// Old Paddle spellings become what transformers reads.
TEST(Convert, NormalisesTheConfiguration) {
  TemporaryFolder folder;
  fs::copy(kGoldens / "text/moe", folder / "in");
  Json json = parse_json(read_file(folder / "in/config.json"), "config.json");
  json.update(Json::parse(
      R"({"architectures": ["Ernie4_5_ForCausalLM"], "model_type": "ernie", "moe_num_experts": [8, 8],
    "moe_intermediate_size": [48, 16], "dtype": "float32"})"));
  write_file(folder / "in/config.json", json.dump());
  convert({.input = folder / "in", .output = folder / "out", .dtype = DType::kBF16});
  json = parse_json(read_file(folder / "out/config.json"), "config.json");
  EXPECT_EQ(json["architectures"], Json::array({"Ernie4_5_MoeForCausalLM"}));
  EXPECT_EQ(json["model_type"], "ernie4_5_moe");
  EXPECT_EQ(json["moe_num_experts"], 8);
  EXPECT_EQ(json["moe_intermediate_size"], 48);
  EXPECT_EQ(json["torch_dtype"], "bfloat16");
  EXPECT_FALSE(json.contains("dtype"));
  Checkpoint::open(folder / "out");
}

TEST(Convert, ProtectsFolders) {
  TemporaryFolder folder;
  const ConvertOptions options{.input = kGoldens / "text/dense-tied", .output = folder / "out"};
  const auto code_of = [](const ConvertOptions& o) {
    try {
      convert(o);
    } catch (const Error& e) {
      return e.code();
    }
    return Code::kInternal;  // no error
  };
  fs::create_directory(options.output);
  write_file(options.output / "notes.txt", "mine");
  EXPECT_EQ(code_of(options), Code::kConflict);
  ConvertOptions forced = options;
  forced.force = true;
  EXPECT_EQ(code_of(forced), Code::kConflict);  // not a model folder: never replaced
  fs::remove(options.output / "notes.txt");
  convert(options);  // an empty folder is fine
  EXPECT_EQ(code_of(options), Code::kConflict);
  convert(forced);
  Checkpoint::open(options.output);
  ConvertOptions same = forced;
  same.input = same.output;
  EXPECT_EQ(code_of(same), Code::kInvalidArgument);
  EXPECT_EQ(code_of({.input = folder / "absent", .output = folder / "x"}), Code::kNotFound);
  EXPECT_EQ(code_of({.input = kGoldens / "README.md", .output = folder / "x"}),
            Code::kInvalidArgument);
  int left = 0;
  for (const auto& entry : fs::directory_iterator(folder.path()))
    left += entry.path() != options.output;
  EXPECT_EQ(left, 0) << "staging folders are removed";
}

// ---- GGUF

TEST(ConvertGguf, EveryArchitectureGivesTheGoldenWeights) {
  const std::vector<std::pair<const char*, const char*>> cases{{"dense-tied", "llama"},
                                                               {"dense-tied", "ernie4_5"},
                                                               {"moe", "ernie4_5-moe"},
                                                               {"moe-sharded", "ernie4_5-moe"}};
  for (const auto& [name, architecture] : cases) {
    SCOPED_TRACE(fmt::format("{} as {}", name, architecture));
    TemporaryFolder folder;
    const auto golden = Checkpoint::open(kGoldens / "text" / name);
    GgufBuilder gguf = golden_gguf(*golden, architecture);
    small_tokenizer(gguf).write(folder / "model.gguf");
    convert({.input = folder / "model.gguf", .output = folder / "out", .dtype = DType::kF32});
    const auto out = Checkpoint::open(folder / "out");
    expect_same_matrices(*golden, *out);
    const TextConfig& a = golden->config();
    const TextConfig& b = out->config();
    EXPECT_EQ(b.name, "golden");
    EXPECT_EQ(a.architecture, b.architecture);
    EXPECT_EQ(a.rope_theta, b.rope_theta);
    EXPECT_EQ(a.rms_norm_eps, b.rms_norm_eps);
    EXPECT_EQ(a.tie_word_embeddings, b.tie_word_embeddings);
    EXPECT_EQ(a.moe_top_k, b.moe_top_k);
    for (int i = 0; i < a.num_layers; ++i) EXPECT_EQ(a.is_moe_layer(i), b.is_moe_layer(i));
    EXPECT_THAT(out->generation_config().eos_ids, testing::ElementsAre(0));
    EXPECT_TRUE(fs::exists(folder / "out/tokenizer.json"));
    // The same weights in a layout of another kind, straight from GGUF, as bfloat16.
    convert({.input = folder / "model.gguf",
             .output = folder / "paddle",
             .layout = CheckpointLayout::kPaddle});
    EXPECT_EQ(Checkpoint::open(folder / "paddle")->layout(), CheckpointLayout::kPaddle);
  }
}

TEST(ConvertGguf, RefusesByName) {
  struct Case {
    const char* what;
    const char* architecture;
    std::function<void(GgufBuilder&)> change;
    const char* message;
  };
  const std::vector<float> row(64);
  const std::vector<Case> cases{
      {"architecture", "qwen2", [](GgufBuilder& g) { small_tokenizer(g); },
       "architecture 'qwen2' is not supported"},
      {"scaled RoPE", "llama",
       [](GgufBuilder& g) { small_tokenizer(g).text("llama.rope.scaling.type", "yarn"); },
       "'llama.rope.scaling.type' is yarn: scaled RoPE"},
      {"RoPE factor", "llama",
       [](GgufBuilder& g) { small_tokenizer(g).f32("llama.rope.scaling.factor", 4); },
       "'llama.rope.scaling.factor' is 4"},
      {"partial RoPE", "llama",
       [](GgufBuilder& g) { small_tokenizer(g).u32("llama.rope.dimension_count", 8); },
       "'llama.rope.dimension_count' is 8"},
      {"RoPE factors as a tensor", "llama",
       [&](GgufBuilder& g) {
         small_tokenizer(g).tensor("rope_freqs.weight", {8}, 0, bytes_of(std::vector<float>(8)));
       },
       "'rope_freqs.weight': scaled RoPE"},
      {"biases", "llama",
       [&](GgufBuilder& g) {
         small_tokenizer(g).tensor("blk.0.attn_q.bias", {64}, 0, bytes_of(row));
       },
       "'blk.0.attn_q.bias': biases"},
      {"unknown tensor", "llama",
       [&](GgufBuilder& g) {
         small_tokenizer(g).tensor("blk.0.attn_q_norm.weight", {64}, 0, bytes_of(row));
       },
       "'blk.0.attn_q_norm.weight': this model has no such part"},
      {"experts in a llama", "llama",
       [](GgufBuilder& g) { small_tokenizer(g).u32("llama.expert_count", 8); },
       "'llama.expert_count' is 8"},
      {"one of several files", "llama",
       [](GgufBuilder& g) { small_tokenizer(g).u32("split.count", 3); }, "one of 3 parts"},
      {"no tokenizer", "llama", [](GgufBuilder&) {}, "tokenizer.ggml.model '' is not supported"},
      {"tokenizer model", "llama", [](GgufBuilder& g) { g.text("tokenizer.ggml.model", "t5"); },
       "tokenizer.ggml.model 't5' is not supported"},
      {"pre-tokenizer", "llama",
       [](GgufBuilder& g) {
         g.text("tokenizer.ggml.model", "gpt2")
             .text("tokenizer.ggml.pre", "qwen2")
             .texts("tokenizer.ggml.tokens", {"a"})
             .texts("tokenizer.ggml.merges", {});
       },
       "tokenizer.ggml.pre 'qwen2' is not supported"},
      {"no tokens", "llama", [](GgufBuilder& g) { g.text("tokenizer.ggml.model", "gpt2"); },
       "'tokenizer.ggml.tokens' is missing"},
      {"token types", "llama",
       [](GgufBuilder& g) {
         g.text("tokenizer.ggml.model", "gpt2")
             .texts("tokenizer.ggml.tokens", {"a", "b"})
             .i32s("tokenizer.ggml.token_type", {1});
       },
       "2 tokens but 1 token types"},
      {"doubled token", "llama",
       [](GgufBuilder& g) {
         g.text("tokenizer.ggml.model", "gpt2").texts("tokenizer.ggml.tokens", {"a", "a"});
       },
       "tokens 0 and 1 are both 'a'"},
      {"token is no text", "llama",
       [](GgufBuilder& g) {
         g.text("tokenizer.ggml.model", "gpt2").texts("tokenizer.ggml.tokens", {"\xFF"});
       },
       "token 0"},
      {"merge of nothing", "llama",
       [](GgufBuilder& g) {
         g.text("tokenizer.ggml.model", "gpt2")
             .text("tokenizer.ggml.pre", "smollm")
             .texts("tokenizer.ggml.tokens", {"a"})
             .texts("tokenizer.ggml.merges", {"a z"});
       },
       "merge 0 ('a z') needs 'z'"},
      {"merge of one", "llama",
       [](GgufBuilder& g) {
         g.text("tokenizer.ggml.model", "gpt2")
             .text("tokenizer.ggml.pre", "smollm")
             .texts("tokenizer.ggml.tokens", {"a"})
             .texts("tokenizer.ggml.merges", {"a"});
       },
       "merge 0 is 'a'"},
      {"scores", "llama",
       [](GgufBuilder& g) {
         g.text("tokenizer.ggml.model", "llama").texts("tokenizer.ggml.tokens", {"a"});
       },
       "1 tokens but 0 scores"},
      {"scored token too long to split", "llama",
       [](GgufBuilder& g) {
         g.text("tokenizer.ggml.model", "llama")
             .texts("tokenizer.ggml.tokens", {std::string(1024, 'a'), std::string(1025, 'a')})
             .f32s("tokenizer.ggml.scores", {0, 0});
       },
       "token 1 has 1025 bytes; at most 1024 are valid"},
      {"token too long", "llama",
       [](GgufBuilder& g) {
         g.text("tokenizer.ggml.model", "gpt2")
             .texts("tokenizer.ggml.tokens", {std::string(65537, 'a')});
       },
       "token 0 has 65537 bytes; at most 65536 are valid"},
      {"end token", "llama",
       [](GgufBuilder& g) {
         g.text("tokenizer.ggml.model", "llama")
             .texts("tokenizer.ggml.tokens", {"a"})
             .f32s("tokenizer.ggml.scores", {0})
             .u32("tokenizer.ggml.eos_token_id", 7);
       },
       "tokenizer.ggml.eos_token_id is 7; the vocabulary has 1"},
  };
  const auto golden = Checkpoint::open(kGoldens / "text/dense-tied");
  for (const Case& c : cases) {
    SCOPED_TRACE(c.what);
    TemporaryFolder folder;
    GgufBuilder gguf = golden_gguf(*golden, c.architecture);
    c.change(gguf);
    gguf.write(folder / "model.gguf");
    std::string message = "no error";
    try {
      convert({.input = folder / "model.gguf", .output = folder / "out"});
    } catch (const Error& e) {
      message = e.what();
    }
    EXPECT_THAT(message, HasSubstr(c.message));
    EXPECT_THAT(message, HasSubstr("model.gguf"));
    EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1)
        << "nothing is left behind";
  }
}

TEST(ConvertGguf, RefusesMissingAndMisshapenTensors) {
  const auto golden = Checkpoint::open(kGoldens / "text/dense-tied");
  TemporaryFolder folder;
  const auto message_of = [&](const GgufBuilder& gguf) {
    gguf.write(folder / "model.gguf");
    try {
      convert({.input = folder / "model.gguf", .output = folder / "out"});
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string("no error");
  };
  GgufBuilder short_of_layers;
  short_of_layers.text("general.architecture", "llama")
      .u32("llama.block_count", 1)
      .u32("llama.context_length", 8);
  short_of_layers.u32("llama.embedding_length", 32).u32("llama.feed_forward_length", 32);
  short_of_layers.u32("llama.attention.head_count", 2);
  GgufBuilder misshapen = short_of_layers;
  short_of_layers.tensor("token_embd.weight", {4, 32}, 0, bytes_of(std::vector<float>(128)));
  EXPECT_THAT(message_of(short_of_layers), HasSubstr("'blk.0.attn_norm.weight' is missing"));
  misshapen.tensor("token_embd.weight", {4, 64}, 0, bytes_of(std::vector<float>(256)));
  EXPECT_THAT(message_of(misshapen), HasSubstr("'token_embd.weight' has shape [4, 64]"));
  EXPECT_THAT(message_of(GgufBuilder().text("general.architecture", "llama")),
              HasSubstr("'token_embd.weight' is missing"));
}

// The look-alike of ERNIE's tokenizer as a llama.cpp vocabulary with scores: merges, normaliser and
// decoder must come back as the tokenizers library wrote them, and every golden line must give its
// ids.
TEST(ConvertGguf, SentencePieceVocabularyGivesTheGoldenIds) {
  const OrderedJson reference = parse_ordered_json(read_file(kGoldens / "tokenizer/tokenizer.json"),
                                                   "tokenizer.json", {.max_keys = 10'000});
  std::map<size_t, std::string> by_id;
  for (const auto& [token, id] : reference["model"]["vocab"].items())
    by_id[id.get<size_t>()] = token;
  std::map<size_t, bool> special;
  for (const OrderedJson& token : reference["added_tokens"]) {
    by_id[token["id"].get<size_t>()] = token["content"];
    special[token["id"].get<size_t>()] = token["special"];
  }
  std::map<std::string, size_t> rank;  // of the piece that a merge makes: its first merge
  for (const OrderedJson& merge : reference["model"]["merges"]) {
    rank.emplace(merge[0].get<std::string>() + merge[1].get<std::string>(), rank.size());
  }
  std::vector<std::string> tokens;
  std::vector<int32_t> types;
  std::vector<float> scores;
  for (const auto& [id, token] : by_id) {
    ASSERT_EQ(id, tokens.size());
    const bool byte = token.size() == 6 && token.starts_with("<0x");
    tokens.push_back(token);
    types.push_back(id == 0 ? 2 : special.contains(id) ? (special[id] ? 3 : 4) : byte ? 6 : 1);
    scores.push_back(rank.contains(token) ? -static_cast<float>(rank[token]) : -1e6F);
  }
  const std::string bytes = GgufBuilder()
                                .text("general.architecture", "ernie4_5")
                                .text("tokenizer.ggml.model", "llama")
                                .texts("tokenizer.ggml.tokens", tokens)
                                .i32s("tokenizer.ggml.token_type", types)
                                .f32s("tokenizer.ggml.scores", scores)
                                .boolean("tokenizer.ggml.add_space_prefix", false)
                                .boolean("tokenizer.ggml.add_bos_token", false)
                                .u32("tokenizer.ggml.bos_token_id", 1)
                                .u32("tokenizer.ggml.eos_token_id", 2)
                                .text("tokenizer.chat_template", "{{ messages }}")
                                .bytes();
  const GgufFile file =
      GgufFile::parse({reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()}, "file");
  const GgufTokenizer result = gguf_tokenizer(file);
  EXPECT_EQ(result.tokenizer["normalizer"], reference["normalizer"]);
  EXPECT_EQ(result.tokenizer["pre_tokenizer"], reference["pre_tokenizer"]);
  EXPECT_EQ(result.tokenizer["decoder"], reference["decoder"]);
  EXPECT_EQ(result.config["bos_token"], tokens[1]);
  EXPECT_EQ(result.config["chat_template"], "{{ messages }}");

  TemporaryFolder folder;
  write_file(folder / "tokenizer.json", result.tokenizer.dump());
  write_file(folder / "tokenizer_config.json", result.config.dump());
  const auto tokenizer = Tokenizer::load(folder.path());
  std::ifstream lines(kGoldens / "tokenizer/golden.jsonl");
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    const Json golden = parse_json(line, "golden.jsonl");
    EXPECT_EQ(tokenizer->encode(golden["text"].get<std::string>()),
              golden["ids"].get<std::vector<int32_t>>())
        << golden["text"];
  }
  EXPECT_GT(count, 50);
}

TEST(ConvertGguf, BosTemplateIsWrittenWhereAsked) {
  const auto tokenizer_of = [](bool add_bos) {
    const std::string bytes = GgufBuilder()
                                  .text("tokenizer.ggml.model", "gpt2")
                                  .text("tokenizer.ggml.pre", "gpt-2")
                                  .texts("tokenizer.ggml.tokens", {"<s>", "a"})
                                  .i32s("tokenizer.ggml.token_type", {3, 1})
                                  .texts("tokenizer.ggml.merges", {})
                                  .u32("tokenizer.ggml.bos_token_id", 0)
                                  .boolean("tokenizer.ggml.add_bos_token", add_bos)
                                  .bytes();
    return gguf_tokenizer(
        GgufFile::parse({reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()}, "file"));
  };
  EXPECT_TRUE(tokenizer_of(false).tokenizer["post_processor"].is_null());
  EXPECT_EQ(tokenizer_of(true).tokenizer["post_processor"]["special_tokens"]["<s>"]["ids"][0], 0);
  EXPECT_EQ(tokenizer_of(true).config["add_bos_token"], true);
}

}  // namespace
}  // namespace erne
