// GGUF blocks as rows of codes in their own precision (spec quantization.md 12.3).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "tensor/code_rows.h"
#include "tensor/gguf_blocks.h"

namespace erne {

/// The rows of a tensor [rows, cols] of `type`, whose blocks are `data` (may be unaligned, must
/// stay mapped), in groups of 32: Q8_0 int8, Q4_0 int4, Q5_0 int8 (-16 … 15), all f16 scales; Q4_1
/// int4 and Q5_1 int8 with f16 mins; Q4_K int4 and Q5_K int8 (0 … 31), f32 scales and mins. scale *
/// code (+ min) in float is what dequantize() gives, bit for bit (but for the sign of a zero).
///
/// Null for types without such a form, which must be dequantised: floats, Q6_K (16 values a scale),
/// and a Q8_0 tensor that holds -128. Throws Error{kCorrupt} naming the tensor when cols is not
/// made of whole blocks or data has not their bytes.
std::unique_ptr<CodeRows> gguf_code_rows(GgufType type, std::span<const std::byte> data,
                                         int64_t rows, int64_t cols, std::string_view name);

}  // namespace erne
