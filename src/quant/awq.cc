#include "quant/awq.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace erne {
namespace {

constexpr int kRatios = 20;

struct Problem {
  const MatrixView& weights;
  std::span<const float> samples;
  const Rounding& rounding;

  int64_t inputs() const { return weights.cols; }
  int64_t tokens() const { return static_cast<int64_t>(samples.size()) / weights.cols; }
  int64_t group() const { return rounding.group == 0 ? weights.cols : rounding.group; }
};

// w - dequantised(w s) / s of one row.
void row_error(const Problem& p, int64_t row, const std::vector<float>& s, float* error) {
  const auto n = static_cast<size_t>(p.inputs());
  std::vector<float> scaled(n);
  std::vector<int8_t> codes(n);
  std::vector<float> scales(n);
  std::vector<float> mins(n);
  read_row_f32(p.weights, row, error);
  for (size_t k = 0; k < n; ++k) scaled[k] = error[k] * s[k];
  round_row(scaled.data(), p.inputs(), p.rounding, codes.data(), scales.data(), mins.data());
  for (size_t k = 0; k < n; ++k) {
    const size_t g = k / static_cast<size_t>(p.group());
    error[k] -= (scales[g] * static_cast<float>(codes[k]) + mins[g]) / s[k];
  }
}

double output_error(const Problem& p, const std::vector<float>& s) {
  std::vector<float> error(static_cast<size_t>(p.inputs()));
  double total = 0;
  for (int64_t row = 0; row < p.weights.rows; ++row) {
    row_error(p, row, s, error.data());
    for (int64_t t = 0; t < p.tokens(); ++t) {
      const float* x = p.samples.data() + t * p.inputs();
      double y = 0;
      for (size_t k = 0; k < error.size(); ++k) y += double{x[k]} * error[k];
      total += y * y;
    }
  }
  return total / static_cast<double>(p.weights.rows * p.tokens());
}

std::vector<float> mean_inputs(const Problem& p) {
  std::vector<float> mean(static_cast<size_t>(p.inputs()));
  for (size_t i = 0; i < p.samples.size(); ++i) {
    mean[i % mean.size()] += std::fabs(p.samples[i]) / static_cast<float>(p.tokens());
  }
  return mean;
}

std::vector<float> mean_weights(const Problem& p) {
  std::vector<float> mean(static_cast<size_t>(p.inputs()));
  std::vector<float> w(mean.size());
  for (int64_t row = 0; row < p.weights.rows; ++row) {
    read_row_f32(p.weights, row, w.data());
    for (int64_t k = 0; k < p.inputs(); k += p.group()) {
      const int64_t end = std::min(k + p.group(), p.inputs());
      float amax = 1e-8F;
      for (int64_t i = k; i < end; ++i) amax = std::max(amax, std::fabs(w[static_cast<size_t>(i)]));
      for (int64_t i = k; i < end; ++i) {
        const auto at = static_cast<size_t>(i);
        mean[at] += std::fabs(w[at]) / amax / static_cast<float>(p.weights.rows);
      }
    }
  }
  return mean;
}

// Scales within [1e-4, 1e4] of each other's geometric middle: a silent input must not divide by 0.
void normalise(std::vector<float>& s) {
  for (float& x : s) x = std::clamp(x, 1e-4F, 1e4F);
  const auto [low, high] = std::minmax_element(s.begin(), s.end());
  const float middle = std::sqrt(*low * *high);
  for (float& x : s) x /= middle;
}

}  // namespace

AwqScales awq_scales(const MatrixView& weights, std::span<const float> samples,
                     const Rounding& rounding) {
  const Problem p{weights, samples, rounding};
  if (weights.rows < 1 || weights.cols < 1 || samples.empty() ||
      static_cast<int64_t>(samples.size()) % weights.cols != 0) {
    fail(Code::kInvalidArgument, "{} sample values for {} inputs", samples.size(), weights.cols);
  }
  const std::vector<float> x = mean_inputs(p);
  const std::vector<float> w = mean_weights(p);
  AwqScales best{std::vector<float>(x.size(), 1.0F), 0, 0};
  best.plain = best.error = output_error(p, best.s);
  for (int i = 0; i < kRatios; ++i) {
    const float r = static_cast<float>(i) / kRatios;
    for (const bool by_weight : {true, false}) {
      if (i == 0 && !by_weight) continue;  // s = 1 again
      std::vector<float> s(x.size());
      for (size_t k = 0; k < s.size(); ++k) {
        s[k] = std::pow(x[k], r) / (by_weight ? std::pow(w[k], 1 - r) + 1e-4F : 1.0F);
      }
      normalise(s);
      const double error = output_error(p, s);
      if (error < best.error) {
        best.error = error;
        best.s = std::move(s);
      }
    }
  }
  return best;
}

}  // namespace erne
