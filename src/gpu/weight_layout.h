// How weights lie in device memory: sizes and offsets of kernels/linear.h, from formats of the
// device's border. Host arithmetic only.
#pragma once

#include "device/weights.h"
#include "gpu/kernels/linear.h"

namespace erne::gpu {

/// A weight of f32 or bf16.
WeightShape float_shape(int64_t n, int64_t k, DType dtype);
/// A quantised one. Throws Error{kUnsupported} for what no kernel takes.
WeightShape code_shape(int64_t n, int64_t k, const CodeFormat& format);
WeightShape shape_of(const Linear& w);

/// Bytes of the whole weight: rows, then scales, then minima.
size_t weight_bytes(const WeightShape& shape);

/// One row of codes as it is stored; `row` has row_bytes.
void store_codes(const WeightShape& shape, const int8_t* codes, uint8_t* row);

}  // namespace erne::gpu
