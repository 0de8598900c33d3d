// Random inputs and error measures for the kernel tests. Values are drawn by a fixed seed, so a
// failure repeats.
#pragma once

#include <cmath>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "device/device.h"

namespace erne::test {

inline std::vector<float> random_values(int64_t count, uint32_t seed, float scale = 1.0F) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0.0F, scale);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& v : values) v = normal(engine);
  return values;
}

/// A tensor that owns its elements, made from floats and rounded to its type.
class Values {
 public:
  Values(DType dtype, const Shape& shape)
      : Values(dtype, shape, std::vector<float>(static_cast<size_t>(shape.elements()))) {}
  Values(DType dtype, const Shape& shape, const std::vector<float>& source)
      : buffer_(Buffer::host(source.size() * 4 + 1)) {
    tensor_ = {buffer_.data(), dtype, shape};
    convert_from_f32(source.data(), dtype, buffer_.data(), source.size());
  }
  const Tensor& tensor() const { return tensor_; }
  std::vector<float> floats() const {
    std::vector<float> values(static_cast<size_t>(tensor_.elements()));
    convert_to_f32(tensor_.data, tensor_.dtype, values.data(), values.size());
    return values;
  }
  /// Rows [begin, end) of a rank-2 tensor.
  Tensor rows(int64_t begin, int64_t end) const {
    const auto row_bytes = static_cast<size_t>(tensor_.dim(1)) * dtype_bytes(tensor_.dtype);
    return {tensor_.ptr<uint8_t>() + static_cast<size_t>(begin) * row_bytes,
            tensor_.dtype,
            {end - begin, tensor_.dim(1)}};
  }
  MatrixView view() const {
    return {tensor_.data, tensor_.dtype, tensor_.dim(0), tensor_.dim(1), tensor_.dim(1), 1};
  }

 private:
  Buffer buffer_;
  Tensor tensor_;
};

/// |a - b| / |b| over all elements.
inline double relative_l2(std::span<const float> a, std::span<const double> b) {
  double error = 0;
  double norm = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    error += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return std::sqrt(error / (norm + 1e-300));
}

/// Largest relative L2 error allowed against a double-precision reference on the same rounded
/// inputs: sums are f32, results are rounded to `result`; kernels that multiply bf16 pairs in
/// hardware flush subnormals, far below either bound.
inline double tolerance(DType result) { return result == DType::kBF16 ? 3e-3 : 1e-6; }

}  // namespace erne::test
