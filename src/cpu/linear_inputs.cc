#include "cpu/linear_inputs.h"

#include <algorithm>
#include <bit>

#include "base/error.h"

namespace erne::cpu {

void check_inputs(const CodeFormat& format, Inputs inputs, int64_t k) {
  const bool integers = format.type == CodeType::kInt8 || format.type == CodeType::kInt4;
  if (inputs == Inputs::kInt8Row && integers && (format.group != 0 || format.has_min))
    fail(Code::kUnsupported, "inputs with a scale a row for weights with groups or minima");
  const int32_t block = format.rotation;
  if (block < 1 || !std::has_single_bit(static_cast<uint32_t>(block)) || k % block != 0)
    fail(Code::kUnsupported, "{} inputs rotated in blocks of {}", k, block);
}

Tensor Rotation::apply(const Tensor& x, int32_t block, const Kernels& kernels, ThreadPool& pool) {
  if (block == 1) return x;
  const int64_t width = x.dim(1);
  const auto size = static_cast<size_t>(x.elements());
  if (memory_.size() < size) memory_.resize(size);
  const auto row_bytes = width * static_cast<int64_t>(dtype_bytes(x.dtype));
  pool.parallel_for(x.dim(0), 4, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      float* row = memory_.data() + r * width;
      convert_to_f32(x.ptr<uint8_t>() + r * row_bytes, x.dtype, row, static_cast<size_t>(width));
      kernels.hadamard(row, width, block);
    }
  });
  return {memory_.data(), DType::kF32, {x.dim(0), width}};
}

}  // namespace erne::cpu
