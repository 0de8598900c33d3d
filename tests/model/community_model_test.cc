// Folders of other projects as models: their logits are those of the float32 model of their
// numbers.
#include <gtest/gtest.h>

#include "model/community_folder.h"
#include "model/convert.h"
#include "model/model_runner.h"

namespace erne {
namespace {

using namespace testing_support;  // NOLINT

class CommunityModel : public CommunityFolder {};

TEST_F(CommunityModel, LogitsAreThoseOfTheNumbers) {
  for (const Format& format : kFormats) {
    SCOPED_TRACE(format.config);
    open(tensors(format.pack), format.config);
    TemporaryFolder numbers;
    ConvertOptions back{.input = folder_.path(), .output = numbers / "f32"};
    back.dtype = DType::kF32;
    convert(back);
    const Runner exact(numbers / "f32", "moe", {DType::kF32, false});
    const Runner codes(folder_.path(), "moe", {DType::kF32, false});
    const auto vocab = static_cast<size_t>(codes.model().config().vocab_size);
    const std::vector<float> expected = exact.logits(1000);
    // 15-bit inputs; fp8 weights take bfloat16 ones, scattered groups become float32 numbers.
    const bool fp8 = std::string(format.config).find("float-quantized") != std::string::npos ||
                     std::string(format.config).find("\"fp8\"") != std::string::npos;
    const bool scattered = std::string(format.config).find("desc_act") != std::string::npos;
    EXPECT_LE(distance(expected, codes.logits(1000), vocab), scattered ? 0 : (fp8 ? 1e-2 : 2e-3));
    EXPECT_GT(distance(expected, Runner(kMoe, "moe", {DType::kF32, false}).logits(1000), vocab),
              0.1);  // the golden's own weights are others
  }
}

}  // namespace
}  // namespace erne
