// Whole models on a GPU: the reference implementation's goldens, held to the CPU's own bounds, and
// the CPU's logits.
#include <gtest/gtest.h>

#include <string>

#include "cpu/cpu_device.h"
#include "gpu/test_device.h"
#include "model/checkpoint.h"
#include "model/golden_cases.h"
#include "model/sequence_runner.h"
#include "model/text_model.h"
#include "model/text_weights.h"
#include "model/verify.h"

namespace erne {
namespace {

std::vector<double> logits(Device& device, const char* name, const LoadOptions& load) {
  const std::shared_ptr<const Checkpoint> checkpoint = Checkpoint::open(kCases / name);
  const auto model = TextModel::load(checkpoint, device, load);
  std::vector<int32_t> ids;
  for (int i = 0; i < 40; ++i) ids.push_back(3 + i * 7 % 90);
  SequenceRunner runner(*model, device, 16);
  const int64_t capacity = 40;
  runner.begin({&capacity, 1}, 25, 25);
  std::vector<double> all;
  for (const auto& [begin, count] : {std::pair{0, 25}, {25, 14}, {39, 1}}) {
    const SequenceRunner::Piece piece{
        0, std::span(ids).subspan(static_cast<size_t>(begin), static_cast<size_t>(count)), count};
    const Tensor out = runner.step({&piece, 1});
    all.insert(all.end(), out.ptr<float>(), out.ptr<float>() + out.elements());
  }
  return all;
}

class GpuModel : public testing::TestWithParam<const char*> {
 protected:
  void expect_pass(const LoadOptions& load, VerifyOptions options) {
    options.f32_bound = test::f32_bound();
    const std::shared_ptr<const Checkpoint> checkpoint = Checkpoint::open(kCases / GetParam());
    const std::unique_ptr<Device> device = test::make_test_device();
    const Golden golden =
        read_golden(kCases / GetParam() / "golden.safetensors", checkpoint->config());
    const auto model = TextModel::load(checkpoint, *device, load);
    EXPECT_EQ(model->weight_bytes(), packed_weight_bytes(*checkpoint, *device, load));
    const VerifyReport report = verify(*model, *device, golden, options);
    for (const std::string& bound : report.broken) ADD_FAILURE() << bound;
    ASSERT_EQ(report.sequences.size(), 4U);
    for (const SequenceReport& r : report.sequences) EXPECT_TRUE(r.has_logits);
  }

  /// Of the logits of 40 tokens in three steps, as a share.
  double distance_from_cpu(const LoadOptions& load) {
    const auto cpu = make_cpu_device(1, "generic");
    const std::vector<double> expected = logits(*cpu, GetParam(), load);
    const auto device = test::make_test_device();
    const std::vector<double> ours = logits(*device, GetParam(), load);
    return test::relative_l2(std::vector<float>(ours.begin(), ours.end()), expected);
  }
};

TEST_P(GpuModel, Float32WholePrompts) { expect_pass({DType::kF32, false}, {0, 4, 16}); }
TEST_P(GpuModel, Float32InChunks) { expect_pass({DType::kF32, false}, {31, 3, 64}); }
TEST_P(GpuModel, Bfloat16WithinTheReferencesOwnError) {
  expect_pass({DType::kBF16, false}, {17, 4, 16});
}

// In float32, so that a wrong code or scale shows: the CPU rounds the inputs of these linears to 15
// bits.
TEST_P(GpuModel, QuantisedWeightsAsOnTheCpu) {
  for (const char* weights : {"wint8", "wint4:g32:min"}) {
    LoadOptions load{DType::kF32, false};
    load.quantization = QuantizationPlan::parse(weights, "lm_head=wint8");
    EXPECT_LE(distance_from_cpu(load), 1e-3) << weights;
  }
}

// Codes are the CPU's but where a value falls between two of them.
TEST_P(GpuModel, CodedCacheAsOnTheCpu) {
  for (const DType cache : {DType::kI8, DType::kF8E4M3}) {
    LoadOptions load{DType::kF32, false};
    load.cache_dtype = cache;
    EXPECT_LE(distance_from_cpu(load), 1e-3) << dtype_name(cache);
  }
}

INSTANTIATE_TEST_SUITE_P(Text, GpuModel, testing::ValuesIn(kCaseNames), [](const auto& which) {
  std::string name = which.param;
  for (char& c : name) c = c == '-' ? '_' : c;
  return name;
});

}  // namespace
}  // namespace erne
