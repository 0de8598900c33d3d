#include "model/logit_row.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace erne {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// The largest logit, or NaN where one is infinite or not a number. Lanes without a bearing on each
// other, so that compilers vectorise: one running maximum takes as long as the exponentials.
double finite_max(std::span<const float> row) {
  constexpr size_t kLanes = 16;
  std::array<float, kLanes> max;
  max.fill(-std::numeric_limits<float>::max());
  std::array<int, kLanes> broken{};
  size_t i = 0;
  for (; i + kLanes <= row.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const float v = row[i + lane];
      max[lane] = max[lane] < v ? v : max[lane];
      broken[lane] |= v - v == 0 ? 0 : 1;
    }
  }
  for (; i < row.size(); ++i) {
    max[0] = std::max(max[0], row[i]);
    broken[0] |= std::isfinite(row[i]) ? 0 : 1;
  }
  const bool finite = std::none_of(broken.begin(), broken.end(), [](int b) { return b != 0; });
  return finite ? *std::max_element(max.begin(), max.end()) : kNaN;
}

size_t first_equal(std::span<const float> row, double value) {
  return static_cast<size_t>(std::find(row.begin(), row.end(), static_cast<float>(value)) -
                             row.begin());
}

}  // namespace

double log_sum_exp(std::span<const float> row) {
  const double max = finite_max(row);
  double sum = 0;
  for (const float v : row) sum += std::exp(v - max);
  return max + std::log(sum);
}

int32_t argmax(std::span<const float> row) {
  return static_cast<int32_t>(std::max_element(row.begin(), row.end()) - row.begin());
}

// With e = exp(baseline - max), S = sum e: KL = sum e (baseline - model) / S - lse(baseline) +
// lse(model), one exponential per logit. Equal rows give exactly 0.
RowDifference compare_rows(std::span<const float> baseline, std::span<const float> model,
                           int32_t target) {
  const double baseline_max = finite_max(baseline);
  const double model_max = finite_max(model);
  double baseline_sum = 0, model_sum = 0, dot = 0, error = 0;
  for (size_t i = 0; i < baseline.size(); ++i) {
    const double gap = static_cast<double>(baseline[i]) - model[i];
    const double weight = std::exp(baseline[i] - baseline_max);
    baseline_sum += weight;
    model_sum += std::exp(model[i] - model_max);
    dot += weight * gap;
    error += std::abs(gap);
  }
  const double baseline_lse = baseline_max + std::log(baseline_sum);
  const double model_lse = model_max + std::log(model_sum);
  const double kl = dot / baseline_sum - (baseline_lse - model_lse);
  // A broken baseline or model leaves a NaN here.
  if (std::isnan(baseline_lse) || std::isnan(model_lse)) return {kNaN, kNaN, kNaN, kNaN, false};
  const auto at = static_cast<size_t>(target);
  return {std::max(0.0, kl), error / static_cast<double>(baseline.size()),
          baseline_lse - baseline[at], model_lse - model[at],
          first_equal(baseline, baseline_max) == first_equal(model, model_max)};
}

}  // namespace erne
