#include "gpu/weight_layout.h"

#include <cstring>

#include "base/error.h"

namespace erne::gpu {
namespace {

int64_t round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

WeightType code_type(CodeType type) {
  switch (type) {
    case CodeType::kInt8:
      return WeightType::kInt8;
    case CodeType::kInt4:
      return WeightType::kInt4;
    case CodeType::kFp8:
      return WeightType::kFp8;
    default:
      fail(Code::kUnsupported, "quantised weights of type {}: the GPU takes int8, int4 and fp8",
           static_cast<int>(type));
  }
}

WeightShape rows_of(WeightType type, int64_t n, int64_t k) {
  WeightShape shape;
  shape.type = type;
  shape.n = n;
  shape.k = k;
  shape.row_bytes = (k + piece_values(type) - 1) / piece_values(type) * 16;
  return shape;
}

}  // namespace

WeightShape float_shape(int64_t n, int64_t k, DType dtype) {
  ERNE_CHECK(dtype == DType::kF32 || dtype == DType::kBF16);
  return rows_of(dtype == DType::kF32 ? WeightType::kF32 : WeightType::kBF16, n, k);
}

WeightShape code_shape(int64_t n, int64_t k, const CodeFormat& format) {
  WeightShape shape = rows_of(code_type(format.type), n, k);
  if (format.group % 32 != 0 || format.group < 0) {
    fail(
        Code::kUnsupported,
        "quantised weights with groups of {} columns: the GPU takes multiples of 32, or whole rows",
        format.group);
  }
  if (format.scale_type != DType::kF32 && format.scale_type != DType::kBF16 &&
      format.scale_type != DType::kF16) {
    fail(Code::kUnsupported, "scales of type {}: the GPU takes float32, bfloat16 and float16",
         dtype_name(format.scale_type));
  }
  shape.group = format.group == 0 ? round_up(k, 32) : format.group;
  shape.groups = format.groups(k);
  shape.scale_type = format.scale_type;
  shape.has_min = format.has_min;
  shape.scales_offset = n * shape.row_bytes;
  const auto scale_bytes = static_cast<int64_t>(dtype_bytes(format.scale_type));
  shape.mins_offset = round_up(shape.scales_offset + n * shape.groups * scale_bytes, 16);
  return shape;
}

WeightShape shape_of(const Linear& w) {
  return w.codes ? code_shape(w.n, w.k, *w.codes) : float_shape(w.n, w.k, w.dtype);
}

size_t weight_bytes(const WeightShape& shape) {
  if (shape.groups == 0) return static_cast<size_t>(shape.n * shape.row_bytes);
  const int64_t one_set = shape.mins_offset - shape.scales_offset;
  return static_cast<size_t>(shape.mins_offset + (shape.has_min ? one_set : 0));
}

void store_codes(const WeightShape& shape, const int8_t* codes, uint8_t* row) {
  if (shape.type != WeightType::kInt4) {
    std::memcpy(row, codes, static_cast<size_t>(shape.k));
    std::memset(row + shape.k, 0, static_cast<size_t>(shape.row_bytes - shape.k));
    return;
  }
  const int offset = shape.has_min ? 0 : 8;
  const auto nibble = [&](int64_t i) {
    return static_cast<unsigned>((i < shape.k ? codes[i] : 0) + offset) & 15U;
  };
  for (int64_t i = 0; i < shape.row_bytes; ++i)
    row[i] = static_cast<uint8_t>(nibble(2 * i) | nibble(2 * i + 1) << 4);
}

}  // namespace erne::gpu
