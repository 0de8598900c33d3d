// Tensor: a view. Row-major, last dimension dense, at most four dimensions; owns nothing (see
// buffer.h).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

#include "tensor/dtype.h"

namespace erne {

class Shape {
 public:
  static constexpr int kMaxRank = 4;

  Shape() = default;
  Shape(std::initializer_list<int64_t> dims);
  explicit Shape(std::span<const int64_t> dims);

  int rank() const { return rank_; }
  int64_t operator[](int i) const { return dims_[static_cast<size_t>(i)]; }
  /// Product of all dimensions; 1 for rank 0.
  int64_t elements() const;
  /// "[2, 3]"
  std::string str() const;
  friend bool operator==(const Shape& a, const Shape& b);

 private:
  std::array<int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

struct Tensor {
  void* data = nullptr;
  DType dtype = DType::kF32;
  Shape shape;

  int64_t dim(int i) const { return shape[i]; }
  int64_t elements() const { return shape.elements(); }
  size_t bytes() const { return static_cast<size_t>(elements()) * dtype_bytes(dtype); }
  /// Typed pointer; the caller states the type that dtype says.
  template <typename T>
  T* ptr() const {
    return static_cast<T*>(data);
  }
};

/// A read-only matrix in a mapped checkpoint: strides in elements, so that a transposed layout
/// needs no copy.
struct MatrixView {
  const void* data = nullptr;  ///< may be unaligned
  DType dtype = DType::kF32;   ///< floating, or kU16 holding bfloat16 bits
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t row_stride = 0;
  int64_t col_stride = 1;
};

/// Row `row` of m as float into dst[m.cols].
void read_row_f32(const MatrixView& m, int64_t row, float* dst);

}  // namespace erne
