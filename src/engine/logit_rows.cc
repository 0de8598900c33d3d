#include "engine/logit_rows.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace erne::logit_rows {
namespace {

// Eight lanes: one AVX register, or two of SSE2 or NEON. Vectors travel by reference, so that no
// calling convention depends on the instruction set.
using Vec = float __attribute__((vector_size(32)));
using VecI = int32_t __attribute__((vector_size(32)));
constexpr size_t kLanes = 8;
constexpr float kInf = std::numeric_limits<float>::infinity();

#define ERNE_INLINE inline __attribute__((always_inline))

ERNE_INLINE void load(const float* p, Vec& v) { std::memcpy(&v, p, sizeof(v)); }

// y = e^x for x <= 0. Cephes' reduction: x = n ln 2 + r with |r| <= 0.35, then a polynomial.
ERNE_INLINE void exp_negative(const Vec& x, Vec& y) {
  const VecI live = x > -87.0F;
  const Vec z = (Vec)((VecI)x & live);
  const VecI n =
      __builtin_convertvector(z * 1.44269504F - 0.5F, VecI);  // truncation rounds, since z <= 0
  const Vec nf = __builtin_convertvector(n, Vec);
  const Vec r = (z - nf * 0.693359375F) + nf * 2.12194440e-4F;
  Vec p = r * 1.98412698e-4F + 1.38888889e-3F;
  p = p * r + 8.33333333e-3F;
  p = p * r + 4.16666667e-2F;
  p = p * r + 1.66666667e-1F;
  p = p * r + 0.5F;
  p = p * r + 1.0F;
  p = p * r + 1.0F;
  const Vec scaled = p * (Vec)((n + 127) << 23);
  y = (Vec)((VecI)scaled & live);
}

ERNE_INLINE double sum_of(const Vec& v) {
  return ((double{v[0]} + double{v[1]}) + (double{v[2]} + double{v[3]})) +
         ((double{v[4]} + double{v[5]}) + (double{v[6]} + double{v[7]}));
}

ERNE_INLINE bool block_maxima_loop(const float* row, size_t size, float* block_max) {
  VecI nan{};
  bool tail_nan = false;
  for (size_t begin = 0; begin < size; begin += kBlock) {
    const size_t end = std::min(begin + kBlock, size);
    Vec high = Vec{} - kInf;
    size_t i = begin;
    for (; i + kLanes <= end; i += kLanes) {
      Vec x;
      load(row + i, x);
      nan |= x != x;
      high = x > high ? x : high;
    }
    float best = -kInf;
    for (size_t lane = 0; lane < kLanes; ++lane) best = std::max(best, high[lane]);
    for (; i < end; ++i) {
      tail_nan |= std::isnan(row[i]);
      best = std::max(best, row[i]);
    }
    block_max[begin / kBlock] = best;
  }
  int32_t any = 0;
  for (size_t lane = 0; lane < kLanes; ++lane) any |= nan[lane];
  return any == 0 && !tail_nan;
}

ERNE_INLINE float weight_of(float logit, float max, float inverse_temperature) {
  const Vec x = Vec{} + (logit - max) * inverse_temperature;
  Vec y;
  exp_negative(x, y);
  return y[0];
}

ERNE_INLINE void weigh_loop(const float* row, size_t size, float max, float inverse_temperature,
                            float* weights, double* block_sum) {
  for (size_t begin = 0; begin < size; begin += kBlock) {
    const size_t end = std::min(begin + kBlock, size);
    Vec sum{};
    size_t i = begin;
    for (; i + kLanes <= end; i += kLanes) {
      Vec x;
      Vec w;
      load(row + i, x);
      exp_negative((x - max) * inverse_temperature, w);
      std::memcpy(weights + i, &w, sizeof(w));
      sum += w;
    }
    double total = sum_of(sum);
    for (; i < end; ++i) {
      weights[i] = weight_of(row[i], max, inverse_temperature);
      total += double{weights[i]};
    }
    block_sum[begin / kBlock] = total;
  }
}

ERNE_INLINE void drop_light_loop(float* weights, size_t size, float least_until, size_t border,
                                 float least_after, double* block_sum) {
  for (size_t begin = 0; begin < size; begin += kBlock) {
    const size_t end = std::min(begin + kBlock, size);
    Vec sum{};
    double total = 0;
    size_t i = begin;
    const bool crosses = border >= begin && border + 1 < end;
    const float least = border >= begin ? least_until : least_after;
    for (; !crosses && i + kLanes <= end; i += kLanes) {
      Vec w;
      load(weights + i, w);
      const VecI keep = w >= least;
      w = (Vec)((VecI)w & keep);
      std::memcpy(weights + i, &w, sizeof(w));
      sum += w;
    }
    total = sum_of(sum);
    for (; i < end; ++i) {
      if (weights[i] < (i <= border ? least_until : least_after)) weights[i] = 0;
      total += double{weights[i]};
    }
    block_sum[begin / kBlock] = total;
  }
}

// The same loops once more for AVX2, chosen at run time; without it they take about three times as
// long.
#if defined(__x86_64__)
#define ERNE_AVX2 __attribute__((target("avx2")))
ERNE_AVX2 bool block_maxima_avx2(const float* row, size_t size, float* block_max) {
  return block_maxima_loop(row, size, block_max);
}
ERNE_AVX2 void weigh_avx2(const float* row, size_t size, float max, float inverse_temperature,
                          float* weights, double* block_sum) {
  weigh_loop(row, size, max, inverse_temperature, weights, block_sum);
}
ERNE_AVX2 void drop_light_avx2(float* weights, size_t size, float least_until, size_t border,
                               float least_after, double* block_sum) {
  drop_light_loop(weights, size, least_until, border, least_after, block_sum);
}
bool has_avx2() { return __builtin_cpu_supports("avx2") != 0; }
#else
bool has_avx2() { return false; }
bool block_maxima_avx2(const float*, size_t, float*) { return false; }
void weigh_avx2(const float*, size_t, float, float, float*, double*) {}
void drop_light_avx2(float*, size_t, float, size_t, float, double*) {}
#endif

}  // namespace

bool block_maxima(const float* row, size_t size, float* block_max) {
  return has_avx2() ? block_maxima_avx2(row, size, block_max)
                    : block_maxima_loop(row, size, block_max);
}

void weigh(const float* row, size_t size, float max, float inverse_temperature, float* weights,
           double* block_sum) {
  if (has_avx2()) return weigh_avx2(row, size, max, inverse_temperature, weights, block_sum);
  weigh_loop(row, size, max, inverse_temperature, weights, block_sum);
}

void drop_light(float* weights, size_t size, float least_until, size_t border, float least_after,
                double* block_sum) {
  if (has_avx2())
    return drop_light_avx2(weights, size, least_until, border, least_after, block_sum);
  drop_light_loop(weights, size, least_until, border, least_after, block_sum);
}

float weight(float logit, float max, float inverse_temperature) {
  return weight_of(logit, max, inverse_temperature);
}

}  // namespace erne::logit_rows
