#include "model/input_statistics.h"

#include <algorithm>

#include "base/error.h"

namespace erne {
namespace {

constexpr int64_t kPieceRows = 512;

}  // namespace

InputStatistics::InputStatistics(Device& device, int64_t inputs, int64_t expected_rows,
                                 int64_t max_samples)
    : device_(device),
      inputs_(inputs),
      expected_rows_(expected_rows),
      max_samples_(std::min(max_samples, expected_rows)),
      sum_(static_cast<size_t>(inputs * inputs)) {}

void InputStatistics::add(const Tensor& x) {
  ERNE_CHECK(x.shape.rank() == 2 && x.dim(1) == inputs_ && !packed_);
  const auto n = static_cast<size_t>(inputs_);
  std::vector<float> row(n);
  for (int64_t first = 0; first < x.dim(0); first += kPieceRows) {
    const int64_t count = std::min(kPieceRows, x.dim(0) - first);
    std::vector<float> transposed(n * static_cast<size_t>(count));
    for (int64_t r = 0; r < count; ++r, ++rows_) {
      const auto* src =
          x.ptr<std::byte>() + (first + r) * inputs_ * static_cast<int64_t>(dtype_bytes(x.dtype));
      convert_to_f32(src, x.dtype, row.data(), n);
      for (size_t k = 0; k < n; ++k)
        transposed[k * static_cast<size_t>(count) + static_cast<size_t>(r)] = row[k];
      const int64_t before = rows_ * max_samples_ / expected_rows_;
      if ((rows_ + 1) * max_samples_ / expected_rows_ > before)
        samples_.insert(samples_.end(), row.begin(), row.end());
    }
    accumulate(transposed, count);
  }
}

// sum += x^T x: a linear whose weights and inputs are both the transposed piece [inputs, count].
void InputStatistics::accumulate(const std::vector<float>& transposed, int64_t count) {
  const MatrixView view{transposed.data(), DType::kF32, inputs_, count, count, 1};
  const Linear w = device_.pack_linear({&view, 1}, DType::kF32, LinearKind::kPlain, {});
  const Tensor x{const_cast<float*>(transposed.data()), DType::kF32, {inputs_, count}};
  device_.linear(x, w, Epilogue::kAdd, {sum_.data(), DType::kF32, {inputs_, inputs_}});
  device_.synchronize();
}

std::vector<double> InputStatistics::hessian(std::span<const float> scale) const {
  const auto n = static_cast<size_t>(inputs_);
  ERNE_CHECK(scale.empty() || scale.size() == n);
  std::vector<double> h(n * n);
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) {
      const double value = sum_[i * n + j];
      h[i * n + j] = scale.empty() ? value : value / (double{scale[i]} * double{scale[j]});
    }
  }
  return h;
}

std::vector<double> InputStatistics::output_errors(std::span<const float> d) {
  if (!packed_) {
    const MatrixView view{sum_.data(), DType::kF32, inputs_, inputs_, inputs_, 1};
    packed_ = device_.pack_linear({&view, 1}, DType::kF32, LinearKind::kPlain, {});
  }
  const auto n = static_cast<size_t>(inputs_);
  std::vector<double> errors(d.size() / n);
  std::vector<float> product(static_cast<size_t>(kPieceRows) * n);
  for (size_t first = 0; first < errors.size(); first += kPieceRows) {
    const size_t count = std::min<size_t>(kPieceRows, errors.size() - first);
    const auto rows = static_cast<int64_t>(count);
    const Tensor x{const_cast<float*>(d.data() + first * n), DType::kF32, {rows, inputs_}};
    device_.linear(x, *packed_, Epilogue::kStore, {product.data(), DType::kF32, {rows, inputs_}});
    device_.synchronize();
    for (size_t r = 0; r < count; ++r) {
      double sum = 0;
      for (size_t k = 0; k < n; ++k)
        sum += double{product[r * n + k]} * double{d[(first + r) * n + k]};
      errors[first + r] = std::max(sum, 0.0);
    }
  }
  return errors;
}

}  // namespace erne
