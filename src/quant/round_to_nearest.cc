// Loops over plain arrays without branches, so that the compiler vectorises them. Sums and extremes
// run in eight lanes: their order is fixed by the source.
#include "quant/round_to_nearest.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "base/error.h"

namespace erne {
namespace {

constexpr int kLanes = 8;

float rounded_bf16(float x) { return to_f32(to_bf16(x)); }

// The next bf16 that is not below x > 0.
float bf16_above(float x) {
  const bf16 nearest = to_bf16(x);
  if (to_f32(nearest) >= x) return to_f32(nearest);
  return to_f32(bf16{static_cast<uint16_t>(nearest.bits + 1)});
}

struct Group {
  const float* w;
  int64_t n;
};

struct Levels {
  int low;
  int high;
};

// Largest bits of |w|; above 0x7F7FFFFF: infinity or NaN.
int32_t magnitude_bits(Group g) {
  int32_t largest = 0;
  for (int64_t i = 0; i < g.n; ++i) {
    largest = std::max(largest, std::bit_cast<int32_t>(g.w[i]) & 0x7FFFFFFF);
  }
  return largest;
}

struct Range {
  float low;
  float high;
};

Range range_of(Group g) {
  float low[kLanes];
  float high[kLanes];
  std::fill_n(low, kLanes, g.w[0]);
  std::fill_n(high, kLanes, g.w[0]);
  int64_t i = 0;
  for (; i + kLanes <= g.n; i += kLanes) {
    for (int j = 0; j < kLanes; ++j) {
      const float x = g.w[i + j];
      low[j] = x < low[j] ? x : low[j];
      high[j] = high[j] < x ? x : high[j];
    }
  }
  for (; i < g.n; ++i) {
    low[0] = std::min(low[0], g.w[i]);
    high[0] = std::max(high[0], g.w[i]);
  }
  return {*std::min_element(low, low + kLanes), *std::max_element(high, high + kLanes)};
}

// Halves away from zero, clipped. The quotient must fit an int.
void round_symmetric(Group g, float scale, Levels levels, int8_t* codes) {
  for (int64_t i = 0; i < g.n; ++i) {
    const float x = g.w[i] / scale;
    const int magnitude = static_cast<int>(std::fabs(x) + 0.5F);
    const int sign = std::bit_cast<int32_t>(x) >> 31;
    const int code = (magnitude ^ sign) - sign;
    codes[i] = static_cast<int8_t>(std::min(std::max(code, levels.low), levels.high));
  }
}

void round_above(Group g, float scale, float min, Levels levels, int8_t* codes) {
  const auto low = static_cast<float>(levels.low);
  const auto high = static_cast<float>(levels.high);
  for (int64_t i = 0; i < g.n; ++i) {
    const float x = (g.w[i] - min) / scale;
    const float clipped = x < low ? low : (high < x ? high : x);
    codes[i] = static_cast<int8_t>(static_cast<int>(clipped - low + 0.5F) + levels.low);
  }
}

struct Fit {
  float scale;
  float min;
  float error;
};

void round_with(Group g, const Fit& fit, bool has_min, Levels levels, int8_t* codes) {
  if (has_min) {
    round_above(g, fit.scale, fit.min, levels, codes);
  } else {
    round_symmetric(g, fit.scale, levels, codes);
  }
}

Fit absmax_fit(float largest, Levels levels) {
  const float scale = rounded_bf16(largest / static_cast<float>(levels.high));
  return {scale == 0 ? 1.0F : scale, 0, 0};
}

// int4: min = the value of code 0; int8: codes are centred, min = the value of code 0 in their
// middle. The scale covers the range from the rounded min.
Fit range_fit(Range range, Levels levels) {
  const auto steps = static_cast<float>(levels.high - levels.low);
  // Halved first: the difference of two large numbers overflows.
  const float step = (range.high / 2 - range.low / 2) / steps * 2;
  const float min = rounded_bf16(range.low - static_cast<float>(levels.low) * step);
  float wanted = (range.high - min) / static_cast<float>(levels.high);
  if (levels.low < 0)
    wanted = std::max(wanted, (min - range.low) / -static_cast<float>(levels.low));
  const float scale = wanted > 0 ? bf16_above(wanted) : 0;
  return {scale > 0 && std::isfinite(scale) ? scale : 1.0F, min, 0};
}

// Sums over the nearest codes q of a scale and a min: the squared error, and what a least-squares
// fit needs.
struct Sums {
  float error = 0, q = 0, qq = 0, w = 0, wq = 0;
};

float total(const float (&lanes)[kLanes]) {
  float sum = 0;
  for (const float x : lanes) sum += x;
  return sum;
}

// Eight lanes of codes as floats: clipped, then rounded by adding a number whose last bit is 1.
void lane_codes(const float* w, const Fit& fit, float inverse, Levels levels, float* q) {
  constexpr float kMagic = 0x1.8p23F;
  const auto low = static_cast<float>(levels.low);
  const auto high = static_cast<float>(levels.high);
  for (int j = 0; j < kLanes; ++j) {
    float x = (w[j] - fit.min) * inverse;
    x = x < low ? low : x;
    x = high < x ? high : x;
    q[j] = (x + kMagic) - kMagic;
  }
}

float error_of(Group g, const Fit& fit, Levels levels) {
  float lanes[kLanes] = {};
  const float inverse = 1 / fit.scale;
  for (int64_t i = 0; i + kLanes <= g.n; i += kLanes) {
    float q[kLanes];
    lane_codes(g.w + i, fit, inverse, levels, q);
    for (int j = 0; j < kLanes; ++j) {
      const float e = g.w[i + j] - (fit.scale * q[j] + fit.min);
      lanes[j] += e * e;
    }
  }
  const int64_t rest = g.n % kLanes;
  float w[kLanes] = {};
  float q[kLanes];
  std::copy_n(g.w + g.n - rest, rest, w);
  lane_codes(w, fit, inverse, levels, q);
  for (int64_t j = 0; j < rest; ++j) {
    const float e = w[j] - (fit.scale * q[j] + fit.min);
    lanes[j] += e * e;
  }
  return total(lanes);
}

// The least-squares scale (and min) of the codes that `fit` gives.
Fit refitted(Group g, const Fit& fit, bool has_min, Levels levels) {
  float lane_q[kLanes] = {};
  float lane_qq[kLanes] = {};
  float lane_w[kLanes] = {};
  float lane_wq[kLanes] = {};
  const float inverse = 1 / fit.scale;
  for (int64_t i = 0; i < g.n; i += kLanes) {
    const float* w = g.w + i;
    float padded[kLanes] = {};
    float q[kLanes];
    const int64_t rest = g.n - i;
    if (rest < kLanes) {
      std::copy_n(w, rest, padded);
      w = padded;
    }
    lane_codes(w, fit, inverse, levels, q);
    if (rest < kLanes) std::fill(q + rest, q + kLanes, 0.0F);
    for (int j = 0; j < kLanes; ++j) {
      lane_q[j] += q[j];
      lane_qq[j] += q[j] * q[j];
      lane_w[j] += w[j];
      lane_wq[j] += w[j] * q[j];
    }
  }
  const float q = total(lane_q);
  const float qq = total(lane_qq);
  const float sum = total(lane_w);
  const float wq = total(lane_wq);
  if (!has_min) return {rounded_bf16(wq / qq), 0, 0};
  const auto n = static_cast<float>(g.n);
  const float scale = rounded_bf16((n * wq - q * sum) / (n * qq - q * q));
  return {scale, rounded_bf16((sum - scale * q) / n), 0};
}

void keep_better(Group g, Fit trial, Levels levels, Fit& best) {
  if (trial.scale == 0 || !std::isfinite(trial.scale) || !std::isfinite(trial.min)) return;
  trial.error = error_of(g, trial, levels);
  if (trial.error < best.error) best = trial;
}

// Clips from 1.15 to 0.5 of the range; then the best one's codes choose scale and min, twice.
Fit search_fit(Group g, Fit start, const Rounding& rounding, Levels levels) {
  const bool narrow = rounding.type == CodeType::kInt4 && !rounding.has_min;
  Fit best = start;
  best.error = std::numeric_limits<float>::infinity();
  keep_better(g, start, levels, best);
  const Range range = range_of(g);
  const float extreme = -range.low > range.high ? range.low : range.high;
  const float middle = range.low / 2 + range.high / 2;
  for (int i = 0; i < 14; ++i) {
    const float clip = 1.15F - 0.05F * static_cast<float>(i);
    if (rounding.has_min) {
      const Range inner{middle + (range.low - middle) * clip,
                        middle + (range.high - middle) * clip};
      keep_better(g, range_fit(inner, levels), levels, best);
    } else if (narrow) {  // the sixteenth code, on the side of the extreme
      keep_better(g, {rounded_bf16(extreme * clip / -8), 0, 0}, levels, best);
    } else {
      keep_better(g, {rounded_bf16(start.scale * clip), 0, 0}, levels, best);
    }
  }
  for (int i = 0; i < 2; ++i) {
    keep_better(g, refitted(g, best, rounding.has_min, levels), levels, best);
  }
  return best;
}

Levels levels_of(const Rounding& rounding) {
  const bool wide = rounding.type == CodeType::kInt8;
  if (rounding.has_min) return wide ? Levels{-128, 127} : Levels{0, 15};
  return wide ? Levels{-127, 127} : Levels{-7, 7};
}

int searched_low(Levels levels) { return levels.low == -7 ? -8 : levels.low; }

void round_group(Group g, const Rounding& rounding, int8_t* codes, float* scale, float* min) {
  Levels levels = levels_of(rounding);
  const int32_t bits = magnitude_bits(g);
  if (bits > 0x7F7FFFFF) {
    std::fill_n(codes, g.n, int8_t{0});
    *scale = std::numeric_limits<float>::quiet_NaN();
    if (rounding.has_min) *min = *scale;
    return;
  }
  Fit fit = rounding.has_min ? range_fit(range_of(g), levels)
                             : absmax_fit(std::bit_cast<float>(bits), levels);
  if (rounding.search == ScaleSearch::kMinError && bits != 0) {
    levels.low = searched_low(levels);
    fit = search_fit(g, fit, rounding, levels);
  }
  round_with(g, fit, rounding.has_min, levels, codes);
  *scale = fit.scale;
  if (rounding.has_min) *min = fit.min;
}

class RoundedRows final : public CodeRows {
 public:
  RoundedRows(const MatrixView& weights, const Rounding& rounding)
      : CodeRows({rounding.type, rounding.group, rounding.has_min, DType::kBF16}, weights.rows,
                 weights.cols),
        weights_(weights),
        rounding_(rounding) {}

  void read(int64_t row, int8_t* codes, float* scales, float* mins) const override {
    const auto values = std::make_unique_for_overwrite<float[]>(static_cast<size_t>(cols()));
    read_row_f32(weights_, row, values.get());
    round_row(values.get(), cols(), rounding_, codes, scales, mins);
  }

 private:
  MatrixView weights_;
  Rounding rounding_;
};

}  // namespace

void round_row(const float* w, int64_t cols, const Rounding& rounding, int8_t* codes, float* scales,
               float* mins) {
  const int64_t step = rounding.group == 0 ? cols : rounding.group;
  for (int64_t k = 0, g = 0; k < cols; k += step, ++g) {
    round_group({w + k, std::min(step, cols - k)}, rounding, codes + k, scales + g,
                rounding.has_min ? mins + g : nullptr);
  }
}

int8_t nearest_code(float w, const Rounding& rounding, float scale, float min) {
  Levels levels = levels_of(rounding);
  if (rounding.search == ScaleSearch::kMinError) levels.low = searched_low(levels);
  // Far outside the codes (w need not be one of those that chose the scale) a quotient may not fit
  // an int.
  const float far = 1024 * std::fabs(scale);
  const float x = w - min;
  const float near = std::fabs(x) <= far ? w : min + std::copysign(far, x);
  int8_t code = 0;
  if (std::isfinite(near)) round_with({&near, 1}, {scale, min, 0}, rounding.has_min, levels, &code);
  return code;
}

std::unique_ptr<CodeRows> round_to_nearest(const MatrixView& weights, const Rounding& rounding) {
  if (rounding.type == CodeType::kFp8) {
    fail(Code::kInvalidArgument, "rounding to the nearest makes int8 or int4 codes, not fp8");
  }
  if (rounding.group != 0 && rounding.group != 32 && rounding.group != 64 &&
      rounding.group != 128) {
    fail(Code::kInvalidArgument, "group is {}; it must be 0 (the row), 32, 64 or 128",
         rounding.group);
  }
  return std::make_unique<RoundedRows>(weights, rounding);
}

}  // namespace erne
