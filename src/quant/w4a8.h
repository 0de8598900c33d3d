// W4A8 (spec quantization.md 4): int4 weights per output row, int8 activations with one static
// scale, int32 sums. This is the arithmetic that kernels must equal.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "tensor/code_rows.h"
#include "tensor/tensor.h"

namespace erne {

/// Weights [rows, cols] as int4 codes clip(rha(7 w / absmax), +-7), rounded when read. With
/// rotation > 1 the codes are of H^T W / sqrt(rotation). The row scale absmax / 7 carries another
/// 1 / sqrt(rotation): the values times the rotated input x H are the product. A zero row has scale
/// 1, a row with NaN or infinity NaN. Throws Error{kInvalidArgument} as check_rotation.
std::unique_ptr<CodeRows> w4a8_rows(const MatrixView& weights, int32_t rotation);

/// Codes clip(rha(127 x / amax), +-127) of x[n]; amax > 0 is the stored absmax of the (rotated)
/// input.
void w4a8_activation(const float* x, int64_t n, float amax, int8_t* codes);

/// y[t, n] = float(sum_k q_x 16 q_w) * (absmax_n amax / (127 * 112)) / sqrt(rotation): the product
/// of x [tokens, cols], row-major, with `weights` as w4a8_rows rounds them. Plain loops.
std::vector<float> w4a8_linear(const float* x, int64_t tokens, const MatrixView& weights,
                               float amax, int32_t rotation);

/// The same product in the steps of integer kernels: x H of each row of x to int8 codes as above,
/// amax 0 meaning each row's own largest magnitude, an integer sum, y = float(sum) * (weight scale
/// * (amax / 127)). `rows`: int4 or int8 codes with a scale a row, rotated as their format says.
std::vector<float> row_scaled_product(const float* x, int64_t tokens, const CodeRows& rows,
                                      float amax);

}  // namespace erne
