// GPTQ and AWQ keep their promises: on correlated and skewed inputs they are never worse than
// rounding to the nearest, and where nothing can be gained they are the same.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "quant/awq.h"
#include "quant/gptq.h"
#include "quant/samples.h"

namespace erne {
namespace {

using namespace testing_support;  // NOLINT

constexpr int64_t kInputs = 96;
constexpr int64_t kTokens = 256;

// Inputs that share a direction, with some ten times as large as others.
std::vector<float> inputs() {
  std::vector<float> x = gaussian(kTokens * kInputs, 21, 1);
  const std::vector<float> direction = gaussian(kTokens, 22, 1);
  for (int64_t t = 0; t < kTokens; ++t) {
    for (int64_t k = 0; k < kInputs; ++k) {
      float& value = x[static_cast<size_t>(t * kInputs + k)];
      value += 2 * direction[static_cast<size_t>(t)];
      if (k % 17 == 0) value *= 10;
    }
  }
  return x;
}

std::vector<double> hessian_of(const std::vector<float>& x) {
  std::vector<double> h(kInputs * kInputs);
  for (size_t t = 0; t < kTokens; ++t) {
    for (size_t i = 0; i < kInputs; ++i) {
      for (size_t j = 0; j < kInputs; ++j) {
        h[i * kInputs + j] += double{x[t * kInputs + i]} * x[t * kInputs + j] / kTokens;
      }
    }
  }
  return h;
}

struct Row {
  std::vector<int8_t> codes = std::vector<int8_t>(kInputs);
  std::vector<float> scales = std::vector<float>(kInputs);
  std::vector<float> mins = std::vector<float>(kInputs);

  std::vector<float> error(const float* w, int64_t group) const {
    std::vector<float> e;
    for (size_t k = 0; k < kInputs; ++k) {
      const size_t g = group == 0 ? 0 : k / static_cast<size_t>(group);
      e.push_back(w[k] - (scales[g] * static_cast<float>(codes[k]) + mins[g]));
    }
    return e;
  }
};

TEST(Gptq, IsBetterThanRoundingOnCorrelatedInputs) {
  const std::vector<double> h = hessian_of(inputs());
  const std::vector<float> w = gaussian(16 * kInputs, 5);
  for (const bool by_activity : {false, true}) {
    for (const bool has_min : {false, true}) {
      for (const int group : {0, 32}) {
        for (const ScaleSearch search : {ScaleSearch::kAbsMax, ScaleSearch::kMinError}) {
          const Rounding rounding{CodeType::kInt4, group, has_min, search};
          const GptqSolver solver(h, kInputs, {rounding, 0.01, by_activity});
          double solved = 0;
          double rounded = 0;
          for (size_t n = 0; n < 16; ++n) {
            Row a;
            Row b;
            solver.solve(&w[n * kInputs], a.codes.data(), a.scales.data(), a.mins.data());
            round_row(&w[n * kInputs], kInputs, rounding, b.codes.data(), b.scales.data(),
                      b.mins.data());
            solved += hessian_error(h, a.error(&w[n * kInputs], group));
            rounded += hessian_error(h, b.error(&w[n * kInputs], group));
          }
          EXPECT_LT(solved, 0.6 * rounded) << by_activity << has_min << group;
        }
      }
    }
  }
}

TEST(Gptq, IsRoundingWhenInputsAreIndependent) {
  std::vector<double> h(kInputs * kInputs);
  for (size_t k = 0; k < kInputs; ++k) h[k * kInputs + k] = 1 + static_cast<double>(k % 5);
  const std::vector<float> w = gaussian(kInputs, 6);
  for (const CodeType type : {CodeType::kInt4, CodeType::kInt8}) {
    for (const bool has_min : {false, true}) {
      for (const bool by_activity : {false, true}) {
        const Rounding rounding{type, 32, has_min};
        Row a;
        Row b;
        GptqSolver(h, kInputs, {rounding, 0.01, by_activity})
            .solve(w.data(), a.codes.data(), a.scales.data(), a.mins.data());
        round_row(w.data(), kInputs, rounding, b.codes.data(), b.scales.data(), b.mins.data());
        EXPECT_EQ(a.codes, b.codes);
        EXPECT_EQ(a.scales, b.scales);
        EXPECT_EQ(a.mins, b.mins);
      }
    }
  }
}

TEST(Gptq, SilentInputsBecomeZeroAndBrokenHessiansAreRefused) {
  std::vector<double> h = hessian_of(inputs());
  for (size_t k = 0; k < kInputs; ++k) h[7 * kInputs + k] = h[k * kInputs + 7] = 0;
  const GptqOptions options{{CodeType::kInt4, 32}};
  Row row;
  GptqSolver(h, kInputs, options)
      .solve(gaussian(kInputs, 1).data(), row.codes.data(), row.scales.data(), row.mins.data());
  EXPECT_EQ(row.codes[7], 0);
  EXPECT_THROW(GptqSolver(h, kInputs + 1, options), Error);
  h[0] = -1;
  EXPECT_THROW(GptqSolver(h, kInputs, options), Error);
  h[0] = NAN;
  EXPECT_THROW(GptqSolver(h, kInputs, options), Error);
}

TEST(Awq, IsBetterThanRoundingOnSkewedInputs) {
  const std::vector<float> x = inputs();
  const std::vector<float> w = gaussian(16 * kInputs, 8);
  for (const bool has_min : {false, true}) {
    const Rounding rounding{CodeType::kInt4, 32, has_min};
    const AwqScales scales = awq_scales(view(w, 16, kInputs), x, rounding);
    EXPECT_LT(scales.error, 0.8 * scales.plain);
    for (const float s : scales.s) EXPECT_GT(s, 0);
  }
}

TEST(Awq, NeverLosesAndRefusesWrongSizes) {
  const std::vector<float> x(kInputs, 0.0F);
  const std::vector<float> w = gaussian(4 * kInputs, 8);
  const AwqScales silent = awq_scales(view(w, 4, kInputs), x, {CodeType::kInt4, 32});
  EXPECT_EQ(silent.error, 0);
  const std::vector<float> even = gaussian(32 * kInputs, 2, 1);
  const AwqScales flat = awq_scales(view(w, 4, kInputs), even, {CodeType::kInt4, 32});
  EXPECT_LE(flat.error, flat.plain);
  EXPECT_THROW(awq_scales(view(w, 4, kInputs), {}, {CodeType::kInt4, 32}), Error);
  EXPECT_THROW(awq_scales(view(w, 4, kInputs), std::span(x).first(5), {CodeType::kInt4, 32}),
               Error);
}

}  // namespace
}  // namespace erne
