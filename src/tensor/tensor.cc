#include "tensor/tensor.h"

#include <algorithm>
#include <cstddef>

#include "base/error.h"

namespace erne {

Shape::Shape(std::initializer_list<int64_t> dims)
    : Shape(std::span<const int64_t>(dims.begin(), dims.size())) {}

Shape::Shape(std::span<const int64_t> dims) : rank_(static_cast<int>(dims.size())) {
  ERNE_CHECK(dims.size() <= kMaxRank, "rank {}", dims.size());
  std::copy(dims.begin(), dims.end(), dims_.begin());
}

int64_t Shape::elements() const {
  int64_t product = 1;
  for (int i = 0; i < rank_; ++i) product *= (*this)[i];
  return product;
}

std::string Shape::str() const {
  std::string text = "[";
  for (int i = 0; i < rank_; ++i) text += fmt::format("{}{}", i > 0 ? ", " : "", (*this)[i]);
  return text + "]";
}

bool operator==(const Shape& a, const Shape& b) {
  return a.rank_ == b.rank_ &&
         std::equal(a.dims_.begin(), a.dims_.begin() + a.rank_, b.dims_.begin());
}

void read_row_f32(const MatrixView& m, int64_t row, float* dst) {
  const auto* base = static_cast<const std::byte*>(m.data);
  const auto element = static_cast<int64_t>(dtype_bytes(m.dtype));
  const std::byte* start = base + row * m.row_stride * element;
  if (m.col_stride == 1) {
    convert_to_f32(start, m.dtype, dst, static_cast<size_t>(m.cols));
    return;
  }
  for (int64_t c = 0; c < m.cols; ++c)
    convert_to_f32(start + c * m.col_stride * element, m.dtype, dst + c, 1);
}

}  // namespace erne
