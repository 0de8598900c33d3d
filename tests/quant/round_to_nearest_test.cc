// Rounding to the nearest: the specification's goldens bit for bit, error bounds, and the searches'
// promise never to be worse.
#include "quant/round_to_nearest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <tuple>

#include "base/error.h"
#include "quant/samples.h"

namespace erne {
namespace {

using testing::ElementsAre;
using namespace testing_support;  // NOLINT

// The specification's W [K, N], read through strides as [N, K].
const std::vector<float> kGolden{.1F, -.2F, .35F, .05F, -.7F, .6F, .02F, -.9F};
const MatrixView kGoldenView{kGolden.data(), DType::kF32, 2, 4, 1, 2};

TEST(RoundToNearest, GivesTheSpecificationsCodes) {
  const Codes wide = read_all(*round_to_nearest(kGoldenView, {CodeType::kInt8}));
  EXPECT_THAT(wide.codes, ElementsAre(18, 63, -127, 4, -28, 7, 85, -127));
  EXPECT_THAT(wide.scales, ElementsAre(0.0055236816F, 0.007080078F));
  const Codes narrow = read_all(*round_to_nearest(kGoldenView, {CodeType::kInt4}));
  EXPECT_THAT(narrow.codes, ElementsAre(1, 3, -7, 0, -2, 0, 5, -7));
  EXPECT_THAT(narrow.scales, ElementsAre(0.10009765625F, 0.12890625F));
}

TEST(RoundToNearest, ErrorAndSnrStayWithinTheirBounds) {
  const int64_t n = 16;
  const int64_t k = 256;
  const std::vector<float> w = gaussian(n * k, 1);
  const double wide = snr(w, values_of(*round_to_nearest(view(w, n, k), {CodeType::kInt8})));
  EXPECT_GT(wide, 42);
  for (const auto& [group, least] : {std::pair{0, 17.0}, {128, 18.0}, {64, 18.8}, {32, 19.5}}) {
    const auto rows = round_to_nearest(view(w, n, k), {CodeType::kInt4, group});
    const std::vector<float> values = values_of(*rows);
    EXPECT_GT(snr(w, values), least) << group;
    const Codes all = read_all(*rows);
    const int64_t step = group == 0 ? k : group;
    for (size_t i = 0; i < w.size(); ++i) {
      const float scale = all.scales[i / static_cast<size_t>(step)];
      ASSERT_LE(std::fabs(w[i] - values[i]), 0.516F * scale) << i;  // .5 + 7 * 2^-9 of bf16
      ASSERT_EQ(scale, to_f32(to_bf16(scale)));
    }
  }
}

using Case = std::tuple<CodeType, int, bool>;
class EveryFormat : public testing::TestWithParam<Case> {};

TEST_P(EveryFormat, SearchIsNeverWorseAndMinsKeepTheRange) {
  const auto [type, group, has_min] = GetParam();
  for (const int64_t k : {1, 31, 32, 100, 256, 130}) {
    std::vector<float> w = gaussian(4 * k, static_cast<uint64_t>(k));
    for (size_t i = 0; i < w.size() / 2; ++i) w[i] += 0.05F;  // two rows away from zero
    const auto plain = round_to_nearest(view(w, 4, k), {type, group, has_min});
    const auto searched =
        round_to_nearest(view(w, 4, k), {type, group, has_min, ScaleSearch::kMinError});
    const double before = squared_error(w, values_of(*plain));
    EXPECT_LE(squared_error(w, values_of(*searched)), before * 1.00001 + 1e-12) << k;
    if (!has_min) continue;
    const Codes all = read_all(*plain);
    const std::vector<float> values = values_of(*plain);
    const int64_t step = group == 0 ? k : group;
    for (size_t i = 0; i < w.size(); ++i) {
      const int64_t groups = plain->format().groups(k);
      const int64_t row = static_cast<int64_t>(i) / k;
      const int64_t col = static_cast<int64_t>(i) % k;
      const float scale = all.scales[static_cast<size_t>(row * groups + col / step)];
      ASSERT_LE(std::fabs(w[i] - values[i]), 0.51F * scale + 0x1p-8F * std::fabs(w[i])) << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, EveryFormat,
                         testing::Combine(testing::Values(CodeType::kInt8, CodeType::kInt4),
                                          testing::Values(0, 32, 64, 128), testing::Bool()));

TEST(RoundToNearest, SearchImprovesSmallGroups) {
  const std::vector<float> w = gaussian(64 * 256, 3);
  for (const bool has_min : {false, true}) {
    const Rounding plain{CodeType::kInt4, 32, has_min};
    Rounding search = plain;
    search.search = ScaleSearch::kMinError;
    const double before = snr(w, values_of(*round_to_nearest(view(w, 64, 256), plain)));
    const double after = snr(w, values_of(*round_to_nearest(view(w, 64, 256), search)));
    EXPECT_GT(after, before + 0.5) << has_min << " before " << before;
  }
}

TEST(RoundToNearest, ZeroTinyAndBrokenGroups) {
  const float inf = std::numeric_limits<float>::infinity();
  for (const bool has_min : {false, true}) {
    for (const ScaleSearch search : {ScaleSearch::kAbsMax, ScaleSearch::kMinError}) {
      std::vector<float> w(4 * 32, 0.0F);
      w[32] = 1e-41F;
      w[65] = inf;
      for (size_t i = 96; i < 128; ++i) w[i] = i % 2 == 0 ? 1e38F : -1e38F;
      int8_t codes[128];
      float scales[4];
      float mins[4] = {};
      round_row(w.data(), 128, {CodeType::kInt4, 32, has_min, search}, codes, scales, mins);
      EXPECT_EQ(scales[0] * codes[0] + mins[0], 0);
      EXPECT_NEAR(scales[1] * codes[32] + mins[1], 0, 1e-40);
      EXPECT_TRUE(std::isnan(scales[2]));
      EXPECT_NEAR(scales[3] * static_cast<float>(codes[96]) + mins[3], 1e38F, 1e36F);
    }
  }
}

TEST(RoundToNearest, RefusesWhatDoesNotExist) {
  EXPECT_THROW(round_to_nearest(kGoldenView, {CodeType::kFp8}), Error);
  EXPECT_THROW(round_to_nearest(kGoldenView, {CodeType::kInt4, 16}), Error);
}

}  // namespace
}  // namespace erne
