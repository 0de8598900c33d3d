// Quantised linears of other projects as rows of codes (spec quantization.md 11). `rows` (outputs)
// and `cols` (inputs) are what the model needs; every tensor is checked against them. Errors:
// Error{kCorrupt} naming tensor, shape or type and what is right; Error{kUnsupported} for bits,
// groups that rows of codes cannot hold. group: inputs that share a scale; -1: all.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "quant/raw_tensor.h"
#include "tensor/code_rows.h"

namespace erne {

enum class AwqVersion : uint8_t { kGemm, kGemv };

struct AwqTensors {
  RawTensor qweight;  ///< int32; gemm [cols, rows / 8], gemv [rows, cols / 8]
  RawTensor qzeros;   ///< int32; gemm [groups, rows / 8], gemv [rows, Z]
  RawTensor scales;   ///< f16; gemm [groups, rows], gemv [rows, 8 Z]
};
/// 4 bits. Z = ceil(groups / 8), for groups of 64 (32) rounded up to a multiple of 2 (4).
std::unique_ptr<CodeRows> awq_rows(const AwqTensors& tensors, AwqVersion version, int64_t group,
                                   int64_t rows, int64_t cols);

struct GptqTensors {
  RawTensor qweight;               ///< int32 [cols * bits / 32, rows]
  RawTensor qzeros;                ///< int32 [groups, rows * bits / 32]
  RawTensor scales;                ///< f16 (bf16, f32) [groups, rows]
  std::optional<RawTensor> g_idx;  ///< int32 [cols]
};
struct GptqFormat {
  int bits = 4;  ///< 2, 3, 4, 8
  int64_t group = 128;
  bool zero_minus_one = true;  ///< qzeros hold z - 1 (gptq), or z (gptq_v2)
};
/// desc_act with groups scattered over the inputs: groups of 1, exact, which devices do not pack.
std::unique_ptr<CodeRows> gptq_rows(const GptqTensors& tensors, GptqFormat format, int64_t rows,
                                    int64_t cols);
struct CompressedTensors {
  RawTensor weight;  ///< weight_packed int32 [rows, ceil(cols * bits / 32)], or int8
  RawTensor scale;   ///< f32, f16, bf16: [rows, groups], [rows, 1] or [1]
  std::optional<RawTensor> zero_point;  ///< packed int32 [ceil(rows * bits / 32), groups], or int8
  std::optional<RawTensor> g_idx;       ///< int32 [cols], as of GPTQ
};
/// pack-quantized, 2 to 8 bits. Stored values are q + 2^(bits - 1).
std::unique_ptr<CodeRows> compressed_packed_rows(const CompressedTensors& tensors, int bits,
                                                 int64_t group, int64_t rows, int64_t cols);
/// int-quantized: weight int8 [rows, cols], zero_point int8 of the scale's shape.
std::unique_ptr<CodeRows> compressed_int8_rows(const CompressedTensors& tensors, int64_t group,
                                               int64_t rows, int64_t cols);

/// e4m3fn bytes (uint8 or int8 [rows, cols]) with scales to multiply by: [] or [1], [rows] or
/// [rows, 1], or one per block [ceil(rows / block_rows), ceil(cols / block_cols)]. Covers HF fp8
/// (weight_scale_inv), float-quantized and naive compressed-tensors. block 0: no blocks.
struct Fp8Block {
  int64_t rows = 0;
  int64_t cols = 0;  ///< a multiple of 32
};
std::unique_ptr<CodeRows> fp8_stored_rows(const RawTensor& weight, const RawTensor& scale,
                                          Fp8Block block, int64_t rows, int64_t cols);

}  // namespace erne
