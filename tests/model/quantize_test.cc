// `erne quantize` on the goldens: what the folder holds, that it is the same every time, that an
// interrupted run goes on, and folders with a lie in them.
#include "model/quantize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "model/checkpoint.h"
#include "model/convert.h"
#include "model/layout.h"
#include "model/quantized_tensors.h"
#include "support/temporary_folder.h"
#include "tensor/safetensors.h"

namespace erne {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing_support::TemporaryFolder;

const fs::path kGoldens = fs::path(ERNE_TESTS_DIR) / "goldens/text";
constexpr const char* kQ = "model.layers.0.self_attn.q_proj.weight";

QuantizeOptions options(const char* golden, const fs::path& output, const char* scheme,
                        const char* mixed = "") {
  return {.input = kGoldens / golden,
          .output = output,
          .plan = QuantizationPlan::parse(scheme, mixed),
          .num_threads = 2};
}

std::map<std::string, std::string> contents(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(folder))
    files[entry.path().filename().string()] = read_file(entry.path());
  return files;
}

// Every weight of the folder within the scheme's step of the golden's.
void expect_close(const fs::path& folder, const char* golden, double levels) {
  const auto numbers = Checkpoint::open(kGoldens / golden);
  const auto checkpoint = Checkpoint::open(folder);
  const TextConfig& config = checkpoint->config();
  EXPECT_EQ(config.quant_method, "erne");
  for (const ExpectedTensor& tensor : expected_tensors(config)) {
    const auto codes = checkpoint->codes(tensor.name);
    const MatrixView view = numbers->matrix(tensor.name, tensor.rows, tensor.cols);
    EXPECT_EQ(codes != nullptr, tensor.kind == TensorKind::kLinear) << tensor.name;
    if (codes == nullptr) {
      const MatrixView same = checkpoint->matrix(tensor.name, tensor.rows, tensor.cols);
      EXPECT_EQ(
          std::memcmp(same.data, view.data, static_cast<size_t>(tensor.rows * tensor.cols) * 4), 0)
          << tensor.name;
      continue;
    }
    std::vector<float> row(static_cast<size_t>(tensor.cols));
    std::vector<float> quantised(row.size());
    for (int64_t r = 0; r < tensor.rows; ++r) {
      read_row_f32(view, r, row.data());
      dequantize_row(*codes, r, quantised.data());
      float largest = 0;
      for (const float value : row) largest = std::max(largest, std::fabs(value));
      for (size_t i = 0; i < row.size(); ++i) {
        // Half a step, and what rounding the scale to bfloat16 adds.
        ASSERT_LE(std::fabs(row[i] - quantised[i]), 0.51 * largest / levels + largest / 256)
            << tensor.name << " row " << r;
      }
    }
  }
}

TEST(Quantize, EveryGolden) {
  for (const char* golden : {"dense-tied", "dense-bias", "moe", "moe-sharded"}) {
    SCOPED_TRACE(golden);
    TemporaryFolder folder;
    const bool tied = std::string(golden) == "dense-tied" || std::string(golden) == "moe";
    const char* head = tied ? "" : "lm_head=wint8";
    const QuantizeResult result = quantize(options(golden, folder / "out", "wint8", head));
    expect_close(folder / "out", golden, 127);
    EXPECT_LT(result.bytes, result.input_bytes);
    for (const TensorError& error : result.tensors) {
      EXPECT_EQ(error.scheme, "wint8");
      EXPECT_GT(error.snr_db, 35) << error.name;
    }
    EXPECT_FALSE(fs::exists(folder / "out.partial"));
  }
}

TEST(Quantize, FourBitsWithGroups) {
  TemporaryFolder folder;
  quantize(options("dense-bias", folder / "out", "wint4:g32", "lm_head=wint4:g32:min"));
  expect_close(folder / "out", "dense-bias", 7);
}

TEST(Quantize, TiedHeadGetsCodesOfItsOwn) {
  TemporaryFolder folder;
  quantize(options("dense-tied", folder / "out", "wint8", "lm_head=wint8"));
  const auto checkpoint = Checkpoint::open(folder / "out");
  const TextConfig& config = checkpoint->config();
  ASSERT_NE(checkpoint->codes("lm_head.weight"), nullptr);
  EXPECT_EQ(checkpoint->codes("model.embed_tokens.weight"), nullptr);
  EXPECT_EQ(
      checkpoint->matrix("model.embed_tokens.weight", config.vocab_size, config.hidden_size).dtype,
      DType::kF32);
}

TEST(Quantize, TheSameBytesEveryTimeAndWhereverItWasInterrupted) {
  TemporaryFolder folder;
  QuantizeOptions first = options("moe", folder / "first", "wint4:g32", "lm_head=wint8");
  first.max_shard_bytes = 100'000;
  const QuantizeResult result = quantize(first);
  ASSERT_GT(result.num_files, 2);
  const auto expected = contents(folder / "first");

  for (int stop_after = 1; stop_after < result.num_files; stop_after += 2) {
    QuantizeOptions second = first;
    second.output = folder / "second";
    second.num_threads = 1;
    int files = 0;
    second.file_done = [&](const std::string&) {
      if (++files == stop_after) throw std::runtime_error("interrupted");
    };
    EXPECT_THROW(quantize(second), std::runtime_error);
    EXPECT_FALSE(fs::exists(folder / "second"));
    write_file(folder / "second.partial/model-00009-of-00009.safetensors.tmp-1-0", "half");
    second.file_done = {};
    EXPECT_EQ(quantize(second).num_resumed, stop_after);
    EXPECT_EQ(contents(folder / "second"), expected);
    fs::remove_all(folder / "second");
  }
}

TEST(Quantize, EverySchemeGivesTheSameBytesWithAnyThreads) {
  for (const auto& [golden, scheme, mixed] :
       std::vector<std::array<const char*, 3>>{{"moe", "wint2.5", "experts=wint2.5"},
                                               {"moe-sharded", "wint2", "experts=wint2"},
                                               {"dense-bias", "w4a8", "lm_head=w8a8"},
                                               {"dense-bias", "fp8_tensor:r32", ""}}) {
    SCOPED_TRACE(scheme);
    TemporaryFolder folder;
    QuantizeOptions o = options(golden, folder / "a", scheme, mixed);
    o.max_shard_bytes = 100'000;
    const QuantizeResult result = quantize(o);
    for (const TensorError& error : result.tensors) {
      const bool two_bits = error.scheme.starts_with("wint2");
      EXPECT_GT(error.snr_db, two_bits ? 6 : 14) << error.name;
    }
    o.output = folder / "b";
    o.num_threads = 3;
    quantize(o);
    EXPECT_EQ(contents(folder / "a"), contents(folder / "b"));
    Checkpoint::open(folder / "a");
  }
}

TEST(Quantize, TwoBitsTakeTheirBits) {
  TemporaryFolder folder;
  const QuantizeResult result =
      quantize(options("moe-sharded", folder / "out", "wint2.5", "experts=wint2.5"));
  for (const TensorError& error : result.tensors) {
    if (error.scheme != "wint2.5" || error.name.find("up_proj") == std::string::npos) continue;
    EXPECT_EQ(error.bytes, 32U * (128 / 64 * 20 + 2)) << error.name;  // [32, 128]
  }
}

TEST(Quantize, FilesOfAnotherPlanAreNotUsed) {
  TemporaryFolder folder;
  QuantizeOptions first = options("moe", folder / "out", "wint4");
  first.max_shard_bytes = 100'000;
  first.file_done = [](const std::string&) { throw std::runtime_error("interrupted"); };
  EXPECT_THROW(quantize(first), std::runtime_error);
  QuantizeOptions second = options("moe", folder / "out", "wint8");
  second.max_shard_bytes = 100'000;
  EXPECT_EQ(quantize(second).num_resumed, 0);
  expect_close(folder / "out", "moe", 127);
}

TEST(Quantize, RefusesWithTheReason) {
  TemporaryFolder folder;
  const auto error = [](const QuantizeOptions& o) -> std::string {
    try {
      quantize(o);
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  };
  QuantizeOptions o = options("moe", folder / "out", "none");
  EXPECT_THAT(error(o), HasSubstr("quantises nothing"));
  EXPECT_FALSE(fs::exists(folder / "out.partial"));
  o = options("moe", kGoldens / "moe", "wint8");
  EXPECT_THAT(error(o), HasSubstr("same folder"));
  o = options("moe", folder / "out", "wint2");  // four layers: no expert is deep enough
  EXPECT_THAT(error(o), AllOf(HasSubstr("layers 7"), HasSubstr("experts=wint2")));
  o = options("dense-bias", folder / "out", "wint2.5");
  EXPECT_THAT(error(o), HasSubstr("--mixed mlp=wint2.5"));
  EXPECT_FALSE(fs::exists(folder / "out.partial"));
  quantize(options("moe", folder / "out", "wint8"));
  o = options("moe", folder / "out", "wint8");
  EXPECT_THAT(error(o), HasSubstr("--force"));
  o.force = true;
  EXPECT_EQ(error(o), "no error");
  o.input = folder / "out";
  o.output = folder / "again";
  EXPECT_THAT(error(o), HasSubstr("quantised already"));
}

// Codes turned back into numbers by `erne convert`.
TEST(Quantize, ConvertGivesTheNumbersOfTheCodes) {
  TemporaryFolder folder;
  quantize(options("dense-bias", folder / "codes", "wint4:g32"));
  ConvertOptions back{.input = folder / "codes", .output = folder / "numbers"};
  back.dtype = DType::kF32;
  convert(back);
  const auto codes = Checkpoint::open(folder / "codes");
  const auto numbers = Checkpoint::open(folder / "numbers");
  EXPECT_EQ(numbers->config().quant_method, "");
  const int64_t rows = codes->config().q_size();
  const int64_t cols = codes->config().hidden_size;
  const MatrixView view = numbers->matrix(kQ, rows, cols);
  std::vector<float> expected(static_cast<size_t>(cols));
  std::vector<float> row(expected.size());
  for (int64_t r = 0; r < rows; ++r) {
    dequantize_row(*codes->codes(kQ), r, expected.data());
    read_row_f32(view, r, row.data());
    EXPECT_EQ(row, expected);
  }
}

// A quantised folder with one lie in it.
class QuantizedFolder : public testing::Test {
 protected:
  struct Item {
    TensorInfo info;
    std::string data;
  };
  void SetUp() override {
    quantize(options("dense-bias", folder_ / "out", "wint4:g32", "attention=wint8"));
    load();
  }
  void load() {
    const SafetensorsFile file = SafetensorsFile::open(folder_ / "out" / "model.safetensors");
    for (const StoredTensor& tensor : file.tensors()) {
      items_[tensor.info.name] = {
          tensor.info, std::string(reinterpret_cast<const char*>(tensor.data), tensor.bytes)};
    }
  }
  void reshape(const std::string& name, DType dtype, const std::vector<int64_t>& shape) {
    Item& item = items_[name];
    item.info = {name, dtype, shape};
    item.data.assign(item.info.bytes(), '\1');
  }
  std::string error() {
    std::vector<TensorInfo> infos;
    for (const auto& [name, item] : items_) {
      infos.push_back(item.info);
      infos.back().name = name;
    }
    SafetensorsWriter writer(folder_ / "out" / "model.safetensors", infos);
    for (const auto& [name, item] : items_) writer.write(item.data.data(), item.data.size());
    writer.commit();
    try {
      Checkpoint::open(folder_ / "out");
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Code::kCorrupt);
      return e.what();
    }
    return "no error";
  }

  TemporaryFolder folder_;
  std::map<std::string, Item> items_;
};

TEST_F(QuantizedFolder, AsWrittenItOpens) { EXPECT_EQ(error(), "no error"); }

TEST_F(QuantizedFolder, MissingScale) {
  items_.erase(std::string(kQ) + ".scale");
  EXPECT_THAT(error(), AllOf(HasSubstr(kQ), HasSubstr(".scale"), HasSubstr("model.safetensors")));
}

TEST_F(QuantizedFolder, MissingCodes) {
  items_.erase(kQ);
  EXPECT_THAT(error(), AllOf(HasSubstr(kQ), HasSubstr("no codes")));
}

TEST_F(QuantizedFolder, MissingWeight) {
  items_.erase(kQ);
  items_.erase(std::string(kQ) + ".scale");
  EXPECT_THAT(error(), AllOf(HasSubstr(kQ), HasSubstr("missing")));
}

TEST_F(QuantizedFolder, CodesOfAnotherShape) {
  reshape(kQ, DType::kI8, {4, 4});
  EXPECT_THAT(error(), AllOf(HasSubstr(kQ), HasSubstr("[4, 4]")));
  reshape(kQ, DType::kI8, {16});
  EXPECT_THAT(error(), HasSubstr("[16]"));
}

TEST_F(QuantizedFolder, ScalesOfAnotherShapeOrType) {
  const std::string scale = std::string(kQ) + ".scale";
  const int64_t rows = items_[scale].info.shape[0];
  reshape(scale, DType::kF32, {rows, 99});
  EXPECT_THAT(error(), AllOf(HasSubstr(scale), HasSubstr("[" + std::to_string(rows) + ", 99]")));
  reshape(scale, DType::kF64, {rows, 1});
  EXPECT_THAT(error(), AllOf(HasSubstr(scale), HasSubstr("float64")));
}

TEST_F(QuantizedFolder, MinsThatDoNotMatch) {
  const std::string min = std::string(kQ) + ".min";
  reshape(min, DType::kF32, {3, 1});
  EXPECT_THAT(error(), AllOf(HasSubstr(min), HasSubstr("match")));
}

TEST_F(QuantizedFolder, CodesWithoutAPlace) {
  reshape("model.layers.99.self_attn.q_proj.weight", DType::kI8, {4, 4});
  EXPECT_THAT(error(), HasSubstr("no place"));
}

TEST_F(QuantizedFolder, WhatMayNotBeQuantised) {
  reshape("model.norm.weight", DType::kI8, {1, 64});
  EXPECT_THAT(error(), AllOf(HasSubstr("model.norm.weight"), HasSubstr("may not")));
}

constexpr const char* kGate = "model.layers.1.mlp.gate_proj.weight";
constexpr const char* kUp = "model.layers.1.mlp.down_proj.weight";

// The same with the parts of 2-bit and rotated weights.
class LowBitFolder : public QuantizedFolder {
 protected:
  void SetUp() override {
    quantize(options("dense-bias", folder_ / "out", "w4a8",
                     "mlp@0=wint2.5,mlp@1=wint2,attention=w4a8:r32"));
    load();
  }
};

TEST_F(LowBitFolder, AsWrittenItOpens) { EXPECT_EQ(error(), "no error"); }

TEST_F(LowBitFolder, PartsOfTwoBitsThatAreMissingOrMisshapen) {
  const auto items = items_;
  for (const char* part : {".scale", ".super", ".code_scale", ".code_zp"}) {
    items_ = items;
    items_.erase(std::string(kGate) + part);
    EXPECT_THAT(error(), HasSubstr(kGate)) << part;
    items_ = items;
    reshape(std::string(kGate) + part, DType::kF32, {3});
    const bool is_float = std::string(part).starts_with(".code");
    EXPECT_THAT(error(), AllOf(HasSubstr(kGate), HasSubstr(is_float ? "[3]" : "float32"))) << part;
  }
  items_ = items;
  reshape(kGate, DType::kU8, {16, 5});
  EXPECT_THAT(error(), AllOf(HasSubstr(kGate), HasSubstr("[16, 5]")));
  items_ = items;
  reshape(std::string(kGate) + ".inputs", DType::kI32, {2});
  EXPECT_THAT(error(), AllOf(HasSubstr(".inputs"), HasSubstr("2-bit")));
  items_ = items;  // constants that give states of more than 30 bits
  std::fill(items_[std::string(kUp) + ".code_scale"].data.begin(),
            items_[std::string(kUp) + ".code_scale"].data.end(), '\x7F');
  EXPECT_THAT(error(), AllOf(HasSubstr(kUp), HasSubstr("2^30")));
}

TEST_F(LowBitFolder, WordsOfTwoAndAHalfBits) {
  const std::string name = "model.layers.0.mlp.gate_proj.weight";
  const auto items = items_;
  reshape(name, DType::kU16, {20, 7});
  EXPECT_THAT(error(), AllOf(HasSubstr(name), HasSubstr("[20, 7]")));
  items_ = items;
  items_.erase(name + ".super");  // numbers of the wrong shape then
  EXPECT_THAT(error(), HasSubstr(name));
}

TEST_F(LowBitFolder, InputsThatNoKernelHas) {
  const std::string inputs = std::string(kQ) + ".inputs";
  const auto set = [&](int32_t rotation, int32_t rule) {
    const int32_t values[] = {rotation, rule};
    items_[inputs].data.assign(reinterpret_cast<const char*>(values), sizeof(values));
    return error();
  };
  EXPECT_EQ(set(32, 2), "no error");
  for (const int32_t rotation : {0, -32, 48, 64, 1 << 30})
    EXPECT_THAT(set(rotation, 2), AllOf(HasSubstr(inputs), HasSubstr("powers of two"))) << rotation;
  for (const int32_t rule : {-1, 3, 1000})
    EXPECT_THAT(set(32, rule), AllOf(HasSubstr(inputs), HasSubstr("rule"))) << rule;
  reshape(inputs, DType::kF32, {2});
  EXPECT_THAT(error(), AllOf(HasSubstr(inputs), HasSubstr("int32 [2]")));
  set(32, 2);
  items_[inputs].info = {inputs, DType::kI32, {2}};
  const std::string absmax = std::string(kQ) + ".input_absmax";
  reshape(absmax, DType::kF32, {1});  // bytes of 1: a tiny number
  EXPECT_THAT(error(), HasSubstr(absmax));
}

}  // namespace
}  // namespace erne
