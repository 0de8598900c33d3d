// Quantised matrices as rows of small codes with scales: what loaders of every file format and
// rounding rule produce, and what devices pack into their own layout (spec quantization.md 3, 12,
// 13).
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "base/error.h"
#include "tensor/dtype.h"

namespace erne {

enum class CodeType : uint8_t {
  kInt8,   ///< -127 … 127 (with mins: any of -128 … 127)
  kInt4,   ///< -8 … 7 (with mins: 0 … 15)
  kFp8,    ///< e4m3fn bytes: no infinity, 0x7F and 0xFF are NaN
  kCcq25,  ///< -4 … 3 in 2.5 bits, groups of 64 (spec quantization.md 8.2)
  kCcq2,   ///< -32 … 31 in 2 bits, groups of 64 (8.3)
};

/// Columns of a group of the 2-bit types; a row is padded with zeros to whole groups.
inline constexpr int64_t kCcqGroup = 64;

constexpr bool is_ccq(CodeType type) { return type == CodeType::kCcq25 || type == CodeType::kCcq2; }

/// Bytes of a row in one of the 2-bit types. kCcq25: ten 16-bit words a group, low byte first.
/// kCcq2: a code for every four columns, then four bits for every group, the even one high.
constexpr int64_t ccq_row_bytes(CodeType type, int64_t cols) {
  const int64_t groups = (cols + kCcqGroup - 1) / kCcqGroup;
  return type == CodeType::kCcq25 ? groups * 20 : groups * 16 + (groups + 1) / 2;
}

/// Constants of a row in one of the 2-bit types: kCcq25 has super only.
struct CcqConstants {
  float super = 0;  ///< what local scales are multiplied with, exact in bf16
  float code_scale = 0;
  float code_zp = 0;
};

/// What a quantised linear multiplies its codes with: the inputs as they are (a CPU rounds them to
/// 15 bits of the largest in each block of k, closer than bf16), or rounded to int8 with a scale a
/// block, or a scale a row (integers that have one scale a row too; others take blocks). fp8 codes
/// meet bf16 inputs in any case: f32 ones are rounded to bf16.
enum class Inputs : uint8_t { kFull, kInt8, kInt8Row };

/// Storage of a quantised matrix [rows, cols]: value(n, k) = scale(n, k / group) * code(n, k)
/// (+ min(n, k / group)).
struct CodeFormat {
  CodeType type = CodeType::kInt8;
  int32_t group = 0;     ///< columns that share a scale: 32, 64, 128; 0: the whole row; 1:
                         ///< none do, which only files have: devices take the numbers
  bool has_min = false;  ///< every group has a minimum too
  DType scale_type = DType::kF32;  ///< type that holds every scale and min exactly: f32, bf16, f16
  /// Above 1: the matrix is to be multiplied with x H instead of x, H the unnormalised Hadamard
  /// matrix on blocks of so many columns (spec quantization.md 4, 7.3).
  int32_t rotation = 1;
  Inputs inputs = Inputs::kFull;  ///< what the scheme asks for; a device may be asked for less

  /// Scales of a row of `cols` columns; the last group may be short.
  int64_t groups(int64_t cols) const { return group == 0 ? 1 : (cols + group - 1) / group; }
  friend bool operator==(const CodeFormat&, const CodeFormat&) = default;
};

/// A quantised matrix that is read row by row, by several threads at once.
class CodeRows {
 public:
  CodeRows(CodeFormat format, int64_t rows, int64_t cols)
      : format_(format), rows_(rows), cols_(cols) {}
  CodeRows(const CodeRows&) = delete;
  CodeRows& operator=(const CodeRows&) = delete;
  virtual ~CodeRows() = default;

  const CodeFormat& format() const { return format_; }
  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }

  /// Row `row`: codes [cols] (one a byte, whatever the type), scales [groups] and, with has_min,
  /// mins [groups].
  virtual void read(int64_t row, int8_t* codes, float* scales, float* mins) const = 0;

  /// Row `row` of a 2-bit type as it is stored, ccq_row_bytes() long; other types have none.
  virtual CcqConstants read_ccq(int64_t row, uint8_t* bytes) const;

  /// Largest magnitude of the (rotated) inputs that the codes of Inputs::kInt8Row reach, found by
  /// calibration; 0: every row of inputs has its own.
  virtual float input_absmax() const { return 0; }

 private:
  CodeFormat format_;
  int64_t rows_;
  int64_t cols_;
};

inline CcqConstants CodeRows::read_ccq(int64_t /*row*/, uint8_t* /*bytes*/) const {
  ERNE_CHECK(false, "codes of type {} have no 2-bit form", static_cast<int>(format_.type));
}

/// Static range of the inputs that holds for all blocks; 0 where one of them has none.
inline float common_absmax(std::span<const CodeRows* const> blocks) {
  float most = 0;
  for (const CodeRows* block : blocks) {
    if (block->input_absmax() == 0) return 0;
    most = std::max(most, block->input_absmax());
  }
  return most;
}

}  // namespace erne
