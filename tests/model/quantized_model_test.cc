// Quantised models on the CPU: rounded while loading or read from a quantised folder they are the
// same model, close to the one whose weights are the codes' numbers, and batch invariant.
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <optional>
#include <string>

#include "base/error.h"
#include "model/convert.h"
#include "model/model_runner.h"
#include "model/quantize.h"
#include "model/text_model.h"
#include "support/temporary_folder.h"

namespace erne {
namespace {

namespace fs = std::filesystem;
using testing_support::distance;
using testing_support::kGoldens;
using testing_support::Runner;
using testing_support::TemporaryFolder;

struct Case {
  const char* golden;
  const char* scheme;
  const char* mixed;
};

class QuantizedModel : public testing::TestWithParam<Case> {};

TEST_P(QuantizedModel, OnlineAndFromAFolderAreTheSameModel) {
  const auto [golden, scheme, mixed] = GetParam();
  const QuantizationPlan plan = QuantizationPlan::parse(scheme, mixed);
  TemporaryFolder folder;
  quantize({.input = kGoldens / golden, .output = folder / "out", .plan = plan, .num_threads = 1});
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Runner online(kGoldens / golden, golden, {dtype, false, plan});
    const Runner stored(folder / "out", golden, {dtype, false});
    EXPECT_EQ(online.logits(1000), stored.logits(1000));
    EXPECT_EQ(online.model().weight_bytes(), stored.model().weight_bytes());
  }
}

TEST_P(QuantizedModel, CloseToTheModelOfItsNumbers) {
  const auto [golden, scheme, mixed] = GetParam();
  const QuantizationPlan plan = QuantizationPlan::parse(scheme, mixed);
  TemporaryFolder folder;
  quantize({.input = kGoldens / golden, .output = folder / "codes", .plan = plan});
  ConvertOptions back{.input = folder / "codes", .output = folder / "numbers"};
  back.dtype = DType::kF32;
  convert(back);
  const Runner numbers(folder / "numbers", golden, {DType::kF32, false});
  const std::vector<float> expected = numbers.logits(1000);
  const Runner full(folder / "codes", golden, {DType::kF32, false});
  const auto vocab = static_cast<size_t>(full.model().config().vocab_size);
  // 15-bit inputs; fp8 weights take bfloat16 ones, others int8.
  const std::string name = scheme;
  const double bound = name.starts_with("fp8")    ? 1e-2
                       : name.starts_with("w8a8") ? 3e-2
                       : name.starts_with("w4a8") ? 5e-2
                                                  : 2e-3;
  EXPECT_LT(distance(expected, full.logits(1000), vocab), bound);
  const Runner rounded(folder / "codes", golden, {DType::kF32, false, {}, Inputs::kInt8});
  EXPECT_LT(distance(expected, rounded.logits(1000), vocab), std::max(bound, 3e-2));
}

TEST_P(QuantizedModel, BatchInvariant) {
  const auto [golden, scheme, mixed] = GetParam();
  const QuantizationPlan plan = QuantizationPlan::parse(scheme, mixed);
  for (const std::optional<Inputs> inputs :
       {std::optional<Inputs>(), std::optional(Inputs::kInt8)}) {
    const LoadOptions options{DType::kBF16, false, plan, inputs};
    const std::vector<float> whole = Runner(kGoldens / golden, golden, options, 2).logits(1000);
    for (const int threads : {1, 3}) {
      const Runner runner(kGoldens / golden, golden, options, threads);
      for (const int64_t chunk : {1, 7, 64}) {
        const std::vector<float> pieces = runner.logits(chunk);
        ASSERT_EQ(whole.size(), pieces.size());
        EXPECT_EQ(std::memcmp(whole.data(), pieces.data(), whole.size() * sizeof(float)), 0)
            << threads << " threads, chunks of " << chunk;
      }
    }
  }
}

// An option that would change nothing is an error, not a surprise.
TEST(QuantizedModelOptions, WithoutEffectAreRefused) {
  TemporaryFolder folder;
  const QuantizationPlan plan = QuantizationPlan::parse("wint8", "");
  quantize({.input = kGoldens / "moe", .output = folder / "codes", .plan = plan});
  EXPECT_THROW(Runner(folder / "codes", "moe", {DType::kBF16, false, plan}), Error);
  EXPECT_THROW(Runner(kGoldens / "moe", "moe", {DType::kBF16, false, {}, Inputs::kInt8}), Error);
  Runner(folder / "codes", "moe", {DType::kBF16, false, {}, Inputs::kInt8});
  const QuantizationPlan int8_inputs = QuantizationPlan::parse("w8a8", "");
  quantize({.input = kGoldens / "moe", .output = folder / "w8a8", .plan = int8_inputs});
  EXPECT_THROW(Runner(folder / "w8a8", "moe", {DType::kBF16, false, {}, Inputs::kFull}), Error);
}

INSTANTIATE_TEST_SUITE_P(
    Schemes, QuantizedModel,
    testing::Values(
        Case{"dense-bias", "wint8", "lm_head=wint8"}, Case{"dense-bias", "wint4", ""},
        Case{"dense-bias", "wint4:g32:min", "lm_head=wint8:g64"},
        Case{"moe", "wint4:g64", "attention=none"}, Case{"moe-sharded", "wint8:g32", ""},
        Case{"dense-tied", "fp8_block", ""}, Case{"moe", "fp8_channel", ""},
        Case{"dense-bias", "wint2.5", "mlp=wint2.5,lm_head=wint8"},
        Case{"moe", "wint2.5", "experts=wint2.5"}, Case{"moe-sharded", "wint2", "experts=wint2"},
        Case{"moe", "w8a8:g64", ""}, Case{"dense-bias", "w4a8", "lm_head=w8a8"},
        Case{"moe", "w4a8", "attention=w4a8:r1"}, Case{"dense-tied", "fp8_tensor:r32", ""}),
    [](const testing::TestParamInfo<Case>& test) {
      std::string name = std::string(test.param.golden) + "_" + test.param.scheme;
      for (char& c : name) {
        if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
      }
      return name;
    });

}  // namespace
}  // namespace erne
