// The block formats of GGUF tensors and their values. A row is a sequence of blocks; a block holds
// 1, 32 or 256 values. Layouts: ggml's block_q* structures, little endian.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace erne {

/// ggml's type ids; only those that dequantize() reads.
enum class GgufType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kBF16 = 30,
};

struct GgufBlock {
  int64_t values;  ///< per block
  int64_t bytes;   ///< per block
};

/// The type with this id, or nullopt for one that is not supported.
std::optional<GgufType> gguf_type(uint32_t id);
GgufBlock gguf_block(GgufType type);
/// ggml's name of any type id, supported or not: "Q4_1", "IQ2_XS", "type 99".
std::string gguf_type_name(uint32_t id);

/// `n` values, a multiple of the block's, from src (may be unaligned) into dst. Every product and
/// sum is rounded to float as ggml's scalar reference does, so the results are equal bit for bit.
void dequantize(GgufType type, const std::byte* src, float* dst, int64_t n);

}  // namespace erne
