#include "quant/affine_rows.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace erne {
namespace {

// The widest group of CodeFormat that never crosses one of the file's groups.
int32_t device_group(const Affine& affine, int64_t cols) {
  if (affine.group >= cols) return 0;
  for (const int32_t group : {128, 64, 32}) {
    if (affine.group % group == 0) return group;
  }
  fail(Code::kUnsupported, "{}: groups of {} inputs; multiples of 32 are supported", affine.name,
       affine.group);
}

bool scattered(const Affine& affine) {
  for (size_t k = 0; k < affine.group_of.size(); ++k) {
    if (affine.group_of[k] != static_cast<int64_t>(k) / affine.group) return true;
  }
  return false;
}

bool symmetric(const Affine& affine, int64_t rows, int64_t cols) {
  for (const int16_t z : affine.zeros) {
    if (z != affine.half()) return false;
  }
  if (affine.codes.bits < 8) return true;
  for (int64_t n = 0; n < rows; ++n) {  // -128 is no symmetric code
    for (int64_t k = 0; k < cols; ++k) {
      if (affine.value(n, k) == 0) return false;
    }
  }
  return true;
}

class AffineRows final : public CodeRows {
 public:
  enum class Base : uint8_t {
    kHalf,  // codes q - 2^(bits - 1)
    kZero,  // codes q - z
    kNone,  // codes q
  };

  AffineRows(Affine affine, CodeFormat format, Base base, int64_t rows, int64_t cols)
      : CodeRows(format, rows, cols), affine_(std::move(affine)), base_(base) {}

  void read(int64_t row, int8_t* codes, float* scales, float* mins) const override {
    const int64_t step = format().group == 0 ? cols() : format().group;
    for (int64_t k = 0, g = 0; k < cols(); k += step, ++g) {
      const int64_t from = row * affine_.groups() + k / affine_.group;
      const auto at = static_cast<size_t>(from);
      const int zero = affine_.zeros.empty() ? affine_.half() : affine_.zeros[at];
      const int base = base_ == Base::kHalf ? affine_.half() : (base_ == Base::kZero ? zero : 0);
      const int64_t end = std::min(k + step, cols());
      for (int64_t i = k; i < end; ++i) {
        codes[i] = static_cast<int8_t>(affine_.value(row, i) - base);
      }
      scales[g] = affine_.scales[at];
      if (format().has_min) mins[g] = static_cast<float>(base - zero) * scales[g];
    }
  }

 private:
  Affine affine_;
  Base base_;
};

// A scale (and min) for every column, so that it does not matter which group a column is of.
class ScatteredRows final : public CodeRows {
 public:
  ScatteredRows(Affine affine, CodeFormat format, int64_t rows, int64_t cols)
      : CodeRows(format, rows, cols), affine_(std::move(affine)) {}

  void read(int64_t row, int8_t* codes, float* scales, float* mins) const override {
    for (int64_t k = 0; k < cols(); ++k) {
      const auto at =
          static_cast<size_t>(row * affine_.groups() + affine_.group_of[static_cast<size_t>(k)]);
      const int zero = affine_.zeros.empty() ? affine_.half() : affine_.zeros[at];
      const int base = format().has_min ? affine_.half() : zero;
      codes[k] = static_cast<int8_t>(affine_.value(row, k) - base);
      scales[k] = affine_.scales[at];
      if (format().has_min) mins[k] = static_cast<float>(base - zero) * scales[k];
    }
  }

 private:
  Affine affine_;
};

}  // namespace

std::unique_ptr<CodeRows> affine_rows(Affine affine, int64_t rows, int64_t cols) {
  using Base = AffineRows::Base;
  const int bits = affine.codes.bits;
  const bool is_symmetric = symmetric(affine, rows, cols);
  if (scattered(affine)) {
    // Without mins the codes are q - z, which 8 bits hold unless q itself has 8.
    const CodeFormat format{CodeType::kInt8, 1, bits == 8 && !is_symmetric, DType::kF32};
    return std::make_unique<ScatteredRows>(std::move(affine), format, rows, cols);
  }
  CodeFormat format{bits <= 4 ? CodeType::kInt4 : CodeType::kInt8, device_group(affine, cols),
                    false, affine.scale_type};
  Base base = Base::kHalf;
  if (!is_symmetric) {
    if (affine.scale_type == DType::kF32 && bits < 8) {
      format.type = CodeType::kInt8;
      base = Base::kZero;
    } else {
      format.has_min = true;
      format.scale_type = DType::kF32;
      base = bits <= 4 ? Base::kNone : Base::kHalf;
    }
  }
  return std::make_unique<AffineRows>(std::move(affine), format, base, rows, cols);
}

}  // namespace erne
