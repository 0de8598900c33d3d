// Whole models on a GPU: the reference implementation's goldens, held to the CPU's own bounds, and
// the CPU's logits.
#include <gtest/gtest.h>

#include <string>

#include "gpu/test_device.h"
#include "model/checkpoint.h"
#include "model/golden_cases.h"
#include "model/text_model.h"
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
    const VerifyReport report = verify(*model, *device, golden, options);
    for (const std::string& bound : report.broken) ADD_FAILURE() << bound;
    ASSERT_EQ(report.sequences.size(), 4U);
    for (const SequenceReport& r : report.sequences) EXPECT_TRUE(r.has_logits);
  }
};

TEST_P(GpuModel, Float32WholePrompts) { expect_pass({DType::kF32, false}, {0, 4, 16}); }
TEST_P(GpuModel, Float32InChunks) { expect_pass({DType::kF32, false}, {7, 3, 64}); }
TEST_P(GpuModel, Bfloat16WithinTheReferencesOwnError) {
  expect_pass({DType::kBF16, false}, {17, 4, 16});
}

INSTANTIATE_TEST_SUITE_P(Text, GpuModel, testing::ValuesIn(kCaseNames), [](const auto& which) {
  std::string name = which.param;
  for (char& c : name) c = c == '-' ? '_' : c;
  return name;
});

}  // namespace
}  // namespace erne
