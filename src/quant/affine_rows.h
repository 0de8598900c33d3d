// Integer codes with scales and zero points, (q - z) s, as the community's formats store them, in
// the tightest CodeFormat that keeps every value. Private to the room: community.cc fills it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "quant/packing.h"
#include "tensor/code_rows.h"

namespace erne {

struct Affine {
  int64_t cols = 0;
  std::string name;       ///< of the tensor of codes, for errors
  BitMatrix codes;        ///< unsigned values q, 0 … 2^bits - 1
  bool by_input = false;  ///< streams of `codes` run along outputs: get(k, n), else get(n, k)
  const std::byte* bytes =
      nullptr;                    ///< instead of streams: signed bytes [rows, cols], q = byte + 128
  int64_t group = 0;              ///< inputs that share a scale, 1 … cols
  std::vector<float> scales;      ///< [rows, groups]
  std::vector<int16_t> zeros;     ///< [rows, groups]; empty: 2^(bits - 1) everywhere
  std::vector<int32_t> group_of;  ///< [cols]; empty: k / group
  DType scale_type = DType::kF32;  ///< of the file

  int64_t groups() const { return (cols + group - 1) / group; }
  int value(int64_t n, int64_t k) const {
    if (bytes != nullptr) return std::to_integer<int>(bytes[n * cols + k]) ^ 128;
    return static_cast<int>(by_input ? codes.get(k, n) : codes.get(n, k));
  }
  int half() const { return 1 << (codes.bits - 1); }
};

/// Symmetric (every zero point is 2^(bits - 1)): int4 or int8 codes q - z with the file's scales.
/// Otherwise, with 16-bit scales, codes with f32 mins -z s, and with f32 scales int8 codes q - z;
/// both have the file's values exactly. (8 bits with f32 scales take mins; their products are
/// rounded, within 2^-15 of a scale.) Groups become 32, 64, 128 or the row; where a group's columns
/// are scattered, every column gets its scale: groups of 1, int8. Throws Error{kUnsupported} for
/// other groups.
std::unique_ptr<CodeRows> affine_rows(Affine affine, int64_t rows, int64_t cols);

}  // namespace erne
