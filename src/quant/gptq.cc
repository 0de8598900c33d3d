#include "quant/gptq.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"

namespace erne {

GptqSolver::GptqSolver(std::span<const double> hessian, int64_t inputs, const GptqOptions& options)
    : inputs_(inputs), options_(options) {
  const auto n = static_cast<size_t>(inputs);
  if (inputs < 1 || hessian.size() != n * n) {
    fail(Code::kInvalidArgument, "a Hessian of {} values for {} inputs", hessian.size(), inputs);
  }
  if (options.rounding.type == CodeType::kFp8) {
    fail(Code::kInvalidArgument, "GPTQ makes int8 or int4 codes, not fp8");
  }
  std::vector<double> diagonal(n);
  dead_.resize(n);
  for (size_t k = 0; k < n; ++k) {
    dead_[k] = hessian[k * n + k] == 0 ? 1 : 0;
    diagonal[k] = dead_[k] != 0 ? 1 : hessian[k * n + k];
  }
  order_.resize(n);
  std::iota(order_.begin(), order_.end(), 0);
  if (options.by_activity) {
    std::stable_sort(order_.begin(), order_.end(), [&](int64_t a, int64_t b) {
      return diagonal[static_cast<size_t>(a)] > diagonal[static_cast<size_t>(b)];
    });
  }
  const double damping = options.damping * std::accumulate(diagonal.begin(), diagonal.end(), 0.0) /
                         static_cast<double>(n);
  std::vector<double> h(n * n);
  for (size_t i = 0; i < n; ++i) {
    const auto row = static_cast<size_t>(order_[i]);
    for (size_t j = 0; j < n; ++j) h[i * n + j] = hessian[row * n + static_cast<size_t>(order_[j])];
    h[i * n + i] = diagonal[row] + damping;
  }
  factor(std::move(h));
}

// H = M M^T with M upper triangular, from the last row up; then U = M^-1, row by row.
void GptqSolver::factor(std::vector<double> h) {
  const auto n = static_cast<size_t>(inputs_);
  for (size_t j = n; j-- > 0;) {
    double* mj = &h[j * n];
    double square = mj[j];
    for (size_t k = j + 1; k < n; ++k) square -= mj[k] * mj[k];
    if (!(square > 0) || !std::isfinite(square)) {
      fail(Code::kInvalidArgument,
           "the Hessian is not positive definite at input {}; more damping than {} may help",
           order_[j], options_.damping);
    }
    mj[j] = std::sqrt(square);
    for (size_t i = 0; i < j; ++i) {
      double* mi = &h[i * n];
      double sum = mi[j];
      for (size_t k = j + 1; k < n; ++k) sum -= mi[k] * mj[k];
      mi[j] = sum / mj[j];
    }
  }
  inverse_.assign(n * n, 0);
  for (size_t i = n; i-- > 0;) {
    double* u = &inverse_[i * n];
    u[i] = 1;
    for (size_t k = i + 1; k < n; ++k) {
      const double m = h[i * n + k];
      for (size_t j = k; j < n; ++j) u[j] -= m * inverse_[k * n + j];
    }
    for (size_t j = i; j < n; ++j) u[j] /= h[i * n + i];
  }
}

void GptqSolver::solve(const float* w, int8_t* codes, float* scales, float* mins) const {
  const auto n = static_cast<size_t>(inputs_);
  const Rounding& rounding = options_.rounding;
  const int64_t step = rounding.group == 0 ? inputs_ : rounding.group;
  std::vector<float> start(w, w + n);
  for (size_t k = 0; k < n; ++k) start[k] = dead_[k] != 0 ? 0 : w[k];
  if (options_.by_activity) round_row(start.data(), inputs_, rounding, codes, scales, mins);
  std::vector<double> left(n);  // the weights still to do, in order, with the errors so far
  for (size_t i = 0; i < n; ++i) left[i] = start[static_cast<size_t>(order_[i])];
  std::vector<float> group;
  for (size_t i = 0; i < n; ++i) {
    const int64_t k = order_[i];
    const int64_t g = k / step;
    if (!options_.by_activity &&
        k % step == 0) {  // entering a group: its scale from what it is now
      group.assign(left.begin() + k, left.begin() + std::min(k + step, inputs_));
      round_row(group.data(), static_cast<int64_t>(group.size()), rounding, codes + k, scales + g,
                rounding.has_min ? mins + g : nullptr);
    }
    const float min = rounding.has_min ? mins[g] : 0;
    const double* u = &inverse_[i * n];
    const auto now = static_cast<float>(left[i]);
    codes[k] = nearest_code(now, rounding, scales[g], min);
    const double value = double{scales[g]} * codes[k] + min;
    const double error = (left[i] - value) / u[i];
    for (size_t j = i + 1; j < n; ++j) left[j] -= u[j] * error;
  }
}

double hessian_error(std::span<const double> hessian, std::span<const float> error) {
  const size_t n = error.size();
  ERNE_CHECK(hessian.size() == n * n);
  double total = 0;
  for (size_t i = 0; i < n; ++i) {
    double sum = 0;
    for (size_t j = 0; j < n; ++j) sum += hessian[i * n + j] * error[j];
    total += sum * error[i];
  }
  return total;
}

}  // namespace erne
