// GPTQ and AWQ keep their promises: on correlated and skewed inputs they are never worse than
// rounding to the nearest, and where nothing can be gained they are the same.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/thread_pool.h"
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
  ThreadPool pool(2);
  for (const bool by_activity : {false, true}) {
    for (const bool has_min : {false, true}) {
      for (const int group : {0, 32}) {
        for (const ScaleSearch search : {ScaleSearch::kAbsMax, ScaleSearch::kMinError}) {
          const Rounding rounding{CodeType::kInt4, group, has_min, search};
          const GptqSolver solver(h, kInputs, {0.01, by_activity}, &pool);
          double solved = 0;
          double rounded = 0;
          for (size_t n = 0; n < 16; ++n) {
            Row a;
            Row b;
            solver.solve(&w[n * kInputs], 1, rounding, a.codes.data(), a.scales.data(),
                         a.mins.data());
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
        GptqSolver(h, kInputs, {0.01, by_activity})
            .solve(w.data(), 1, rounding, a.codes.data(), a.scales.data(), a.mins.data());
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
  const GptqOptions options;
  Row row;
  GptqSolver(h, kInputs, options)
      .solve(gaussian(kInputs, 1).data(), 1, {CodeType::kInt4, 32}, row.codes.data(),
             row.scales.data(), row.mins.data());
  EXPECT_EQ(row.codes[7], 0);
  EXPECT_THROW(GptqSolver(h, kInputs + 1, options), Error);
  h[0] = -1;
  EXPECT_THROW(GptqSolver(h, kInputs, options), Error);
  h[0] = NAN;
  EXPECT_THROW(GptqSolver(h, kInputs, options), Error);
}

// More inputs than a block, a panel and a tile: every row alone, all at once, and with threads.
TEST(Gptq, RowsDoNotDependOnEachOtherNorOnThreads) {
  constexpr int64_t kWide = 360;
  constexpr int64_t kRows = 5;
  const std::vector<float> x = gaussian(500 * kWide, 31, 1);
  std::vector<double> h(kWide * kWide);
  for (size_t t = 0; t < 500; ++t) {
    for (size_t i = 0; i < kWide; ++i) {
      for (size_t j = 0; j < kWide; ++j)
        h[i * kWide + j] += double{x[t * kWide + i]} * double{x[t * kWide + j]};
    }
  }
  const std::vector<float> w = gaussian(kRows * kWide, 32);
  ThreadPool pool(3);
  for (const bool by_activity : {false, true}) {
    for (const int group : {0, 128}) {
      const Rounding rounding{CodeType::kInt4, group, true};
      const int64_t groups = group == 0 ? 1 : (kWide + group - 1) / group;
      const auto run = [&](const GptqSolver& solver, int64_t rows_at_once) {
        std::vector<int8_t> codes(kRows * kWide);
        std::vector<float> scales(static_cast<size_t>(kRows * groups));
        std::vector<float> mins(scales.size());
        for (int64_t r = 0; r < kRows; r += rows_at_once) {
          solver.solve(&w[static_cast<size_t>(r * kWide)], rows_at_once, rounding,
                       &codes[static_cast<size_t>(r * kWide)],
                       &scales[static_cast<size_t>(r * groups)],
                       &mins[static_cast<size_t>(r * groups)]);
        }
        return std::tuple(codes, scales, mins);
      };
      const auto expected = run(GptqSolver(h, kWide, {0.01, by_activity}), kRows);
      EXPECT_EQ(run(GptqSolver(h, kWide, {0.01, by_activity}, &pool), 1), expected);
    }
  }
}

TEST(Awq, IsBetterThanRoundingOnSkewedInputs) {
  const std::vector<float> x = inputs();
  const std::vector<float> w = gaussian(16 * kInputs, 8);
  for (const bool has_min : {false, true}) {
    const Rounding rounding{CodeType::kInt4, 32, has_min};
    ThreadPool pool(2);
    const AwqLinear linear{view(w, 16, kInputs), x, rounding};
    const AwqScales scales = awq_scales({&linear, 1}, pool);
    EXPECT_LT(scales.error, 0.8 * scales.plain);
    ThreadPool other(3);
    EXPECT_EQ(awq_scales({&linear, 1}, other).s, scales.s);
    for (const float s : scales.s) EXPECT_GT(s, 0);
  }
}

TEST(Awq, NeverLosesAndRefusesWrongSizes) {
  ThreadPool pool(1);
  const Rounding rounding{CodeType::kInt4, 32};
  const std::vector<float> x(kInputs, 0.0F);
  const std::vector<float> w = gaussian(4 * kInputs, 8);
  const auto search = [&](std::span<const float> samples) {
    const AwqLinear linear{view(w, 4, kInputs), samples, rounding};
    return awq_scales({&linear, 1}, pool);
  };
  EXPECT_EQ(search(x).error, 0);
  const AwqScales flat = search(gaussian(32 * kInputs, 2, 1));
  EXPECT_LE(flat.error, flat.plain);
  EXPECT_THROW(search({}), Error);
  EXPECT_THROW(search(std::span(x).first(5)), Error);
}

// Two linears of one norm: a silent one changes nothing, and the other's tokens count by weight.
TEST(Awq, LinearsShareTheirScales) {
  ThreadPool pool(2);
  const std::vector<float> x = inputs();
  const std::vector<float> w = gaussian(16 * kInputs, 8);
  const AwqLinear one{view(w, 16, kInputs), x, {CodeType::kInt4, 32}};
  AwqLinear silent = one;
  silent.samples = {};
  const AwqScales alone = awq_scales({&one, 1}, pool);
  EXPECT_EQ(awq_scales(std::vector{one, silent}, pool).s, alone.s);
  const AwqScales both = awq_scales(std::vector{one, one}, pool);
  EXPECT_NEAR(both.error, 2 * alone.error, 1e-6 * both.error);
  AwqLinear heavy = one;
  heavy.weight = 3;
  EXPECT_NEAR(awq_scales({&heavy, 1}, pool).plain, 3 * alone.plain,
              1e-6 * heavy.weight * alone.plain);
}

}  // namespace
}  // namespace erne
