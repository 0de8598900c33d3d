// Quantised matrices as rows of small codes with scales: what loaders of every file format and
// rounding rule produce, and what devices pack into their own layout (spec quantization.md 3, 12,
// 13).
#pragma once

#include <cstdint>

#include "tensor/dtype.h"

namespace erne {

enum class CodeType : uint8_t {
  kInt8,  ///< -127 … 127 (with mins: any of -128 … 127)
  kInt4,  ///< -8 … 7 (with mins: 0 … 15)
  kFp8,   ///< e4m3fn bytes: no infinity, 0x7F and 0xFF are NaN
};

/// Storage of a quantised matrix [rows, cols]: value(n, k) = scale(n, k / group) * code(n, k)
/// (+ min(n, k / group)).
struct CodeFormat {
  CodeType type = CodeType::kInt8;
  int32_t group = 0;     ///< columns that share a scale: 32, 64, 128; 0: the whole row; 1:
                         ///< none do, which only files have: devices take the numbers
  bool has_min = false;  ///< every group has a minimum too
  DType scale_type = DType::kF32;  ///< type that holds every scale and min exactly: f32, bf16, f16

  /// Scales of a row of `cols` columns; the last group may be short.
  int64_t groups(int64_t cols) const { return group == 0 ? 1 : (cols + group - 1) / group; }
  friend bool operator==(const CodeFormat&, const CodeFormat&) = default;
};

/// What a quantised linear multiplies its codes with: the inputs as they are (a CPU rounds them to
/// 15 bits of the largest in each block of k, closer than bf16), or rounded to int8 a block. fp8
/// codes meet bf16 inputs either way: f32 ones are rounded to bf16.
enum class Inputs : uint8_t { kFull, kInt8 };

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

 private:
  CodeFormat format_;
  int64_t rows_;
  int64_t cols_;
};

}  // namespace erne
