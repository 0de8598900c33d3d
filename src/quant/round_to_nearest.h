// Weight-only integers by rounding to the nearest code (wint8, wint4; spec quantization.md 3): a
// bf16 matrix becomes codes while it is read, so nothing is stored and nothing is calibrated.
#pragma once

#include <cstdint>
#include <memory>

#include "tensor/code_rows.h"
#include "tensor/tensor.h"

namespace erne {

enum class ScaleSearch : uint8_t {
  kAbsMax,    ///< the largest magnitude (with mins: the range) is the largest code
  kMinError,  ///< some twenty clips and a least-squares fit; the smallest squared error of a group
};

struct Rounding {
  CodeType type = CodeType::kInt8;  ///< kInt8 or kInt4
  int32_t group = 0;                ///< 0 (the row), 32, 64, 128
  bool has_min = false;
  ScaleSearch search = ScaleSearch::kAbsMax;
};

/// One row w[cols] to codes[cols], scales[groups] and, with has_min, mins[groups].
///
/// Symmetric: scale = bf16(absmax / q), q = 127 or 7; code = w / scale, halves away from zero,
/// clipped to +-q; a zero group has scale 1. kMinError may use -8 too and negative scales.
/// With mins: scale = bf16(range / 15 or / 255), min = bf16(smallest; for int8 the value of code
/// 0), widened so that rounding them cuts nothing; codes are the nearest to the rounded values.
/// A group that holds NaN or infinity has scale (and min) NaN and codes 0. Scales and mins are
/// exact in bf16. Needs no memory, throws nothing.
void round_row(const float* w, int64_t cols, const Rounding& rounding, int8_t* codes, float* scales,
               float* mins);

/// The code of one weight under a scale (and min) that round_row chose: what round_row gives it.
int8_t nearest_code(float w, const Rounding& rounding, float scale, float min);

/// The matrix as rows of codes, each row rounded when it is read. `weights` must stay mapped.
/// Throws Error{kInvalidArgument} for a type or group that does not exist.
std::unique_ptr<CodeRows> round_to_nearest(const MatrixView& weights, const Rounding& rounding);

}  // namespace erne
