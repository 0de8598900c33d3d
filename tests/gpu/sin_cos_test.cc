// Rotary angles: the device's sine and cosine against the C library's in double.
#include "gpu/kernels/portable/sin_cos.h"

#include <gtest/gtest.h>

#include <cmath>

namespace erne::gpu {
namespace {

TEST(SinCos, AtMostOneUlpOffUpToTheLongestContext) {
  int64_t angles = 0;
  int64_t off = 0;
  const auto check = [&](float ours, double exact) {
    const auto rounded = static_cast<float>(exact);
    if (ours == rounded) return;
    ++off;
    ASSERT_TRUE(ours == std::nextafter(rounded, 2.0F) || ours == std::nextafter(rounded, -2.0F));
  };
  for (int position = 0; position < (1 << 20); position += position < 3000 ? 1 : 1009) {
    for (int j = 0; j < 64; j += 3) {
      const float inv_freq = 1.0F / std::pow(500000.0F, static_cast<float>(2 * j) / 128.0F);
      const float angle = static_cast<float>(position) * inv_freq;
      const SinCos got = sin_cos(angle);
      check(got.sin, std::sin(double{angle}));
      check(got.cos, std::cos(double{angle}));
      ++angles;
    }
  }
  EXPECT_LE(off, angles / 10000);
}

}  // namespace
}  // namespace erne::gpu
