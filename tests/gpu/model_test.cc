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
};

TEST_P(GpuModel, Float32WholePrompts) { expect_pass({DType::kF32, false}, {0, 4, 16}); }
TEST_P(GpuModel, Float32InChunks) { expect_pass({DType::kF32, false}, {31, 3, 64}); }
TEST_P(GpuModel, Bfloat16WithinTheReferencesOwnError) {
  expect_pass({DType::kBF16, false}, {17, 4, 16});
}

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

// The CPU rounds the inputs of quantised linears to 15 bits, and now and then a key to the next
// code.
TEST_P(GpuModel, QuantisedWeightsAndCacheAsOnTheCpu) {
  for (const char* weights : {"wint8", "wint4:g32:min", "fp8_block"}) {
    for (const DType cache : {DType::kI8, DType::kF8E4M3}) {
      LoadOptions load{DType::kBF16, false};
      load.quantization = QuantizationPlan::parse(weights, "lm_head=wint8");
      load.cache_dtype = cache;
      const auto cpu = make_cpu_device(1, "generic");
      const std::vector<double> expected = logits(*cpu, GetParam(), load);
      const auto device = test::make_test_device();
      const std::vector<double> ours = logits(*device, GetParam(), load);
      const std::vector<float> floats(ours.begin(), ours.end());
      EXPECT_LE(test::relative_l2(floats, expected), 0.02) << weights;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Text, GpuModel, testing::ValuesIn(kCaseNames), [](const auto& which) {
  std::string name = which.param;
  for (char& c : name) c = c == '-' ? '_' : c;
  return name;
});

}  // namespace
}  // namespace erne
