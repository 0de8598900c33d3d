// Sine and cosine of rotary angles: f32 in, correctly rounded f32 out but for a few in ten thousand
// (then 1 ulp off), up to 2^20. The vendors' own take a slow path with an array in memory beyond
// 10^5.
#pragma once

#include "gpu/rt/gpu.h"

namespace erne::gpu {

struct SinCos {
  float sin, cos;
};

// angle = n pi/2 + r, |r| <= pi/4, in double: pi/2 in two parts leaves an error below 2^-60. Then
// the series around 0, whose first missing terms are below 2^-45.
GPU_DEVICE SinCos sin_cos(float angle) {
  const auto x = static_cast<double>(angle);
  const double n = gpu_rint(x * 0.63661977236758134308);
  double r = gpu_fma(n, -1.57079632679489655800, x);
  r = gpu_fma(n, -6.12323399573676603587e-17, r);
  const double z = r * r;
  double s = 1.0 / 6227020800.0;
  s = gpu_fma(s, z, -1.0 / 39916800.0);
  s = gpu_fma(s, z, 1.0 / 362880.0);
  s = gpu_fma(s, z, -1.0 / 5040.0);
  s = gpu_fma(s, z, 1.0 / 120.0);
  s = gpu_fma(s, z, -1.0 / 6.0);
  s = gpu_fma(s * z, r, r);
  double c = -1.0 / 87178291200.0;
  c = gpu_fma(c, z, 1.0 / 479001600.0);
  c = gpu_fma(c, z, -1.0 / 3628800.0);
  c = gpu_fma(c, z, 1.0 / 40320.0);
  c = gpu_fma(c, z, -1.0 / 720.0);
  c = gpu_fma(c, z, 1.0 / 24.0);
  c = gpu_fma(c, z, -0.5);
  c = gpu_fma(c, z, 1.0);
  const int quarter = static_cast<int>(n) & 3;
  const double sine = (quarter & 1) != 0 ? c : s;
  const double cosine = (quarter & 1) != 0 ? s : c;
  return {static_cast<float>((quarter & 2) != 0 ? -sine : sine),
          static_cast<float>(quarter == 1 || quarter == 2 ? -cosine : cosine)};
}

}  // namespace erne::gpu
