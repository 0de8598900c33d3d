#include "quant/kv_codes.h"

#include <algorithm>
#include <cmath>

#include "quant/fp8.h"

namespace erne {
namespace {

float rounded_bf16(float x) { return to_f32(to_bf16(x)); }

// Halves to even, clipped to +-limit; 0 for NaN.
int round_even(float x, int limit) {
  const auto bound = static_cast<float>(limit);
  if (!(x > -bound)) return x <= -bound ? -limit : 0;
  if (x >= bound) return limit;
  constexpr float kMagic = 0x1.8p23F;  // its last bit is 1
  return static_cast<int>((x + kMagic) - kMagic);
}

float zero_at(const float* zeros, int64_t i) { return zeros == nullptr ? 0.0F : zeros[i]; }

}  // namespace

KvScale kv_scale(float absmax, float largest) {
  if (absmax == 0) return {};
  return {rounded_bf16(largest / absmax), rounded_bf16(absmax / largest)};
}

void kv_int8_encode(const float* x, int64_t n, const KvScale* scales, const float* zeros,
                    uint8_t* codes) {
  for (int64_t i = 0; i < n; ++i) {
    const int q = round_even(x[i] * scales[i].factor + zero_at(zeros, i), 127);
    codes[i] = static_cast<uint8_t>(q + 128);
  }
}

void kv_int8_decode(const uint8_t* codes, int64_t n, const KvScale* scales, const float* zeros,
                    float* x) {
  for (int64_t i = 0; i < n; ++i) {
    x[i] = (static_cast<float>(codes[i] - 128) - zero_at(zeros, i)) * scales[i].out;
  }
}

void kv_fp8_encode(const float* x, int64_t n, const KvScale* scales, uint8_t* codes) {
  for (int64_t i = 0; i < n; ++i) codes[i] = fp8_encode(x[i] * scales[i].factor);
}

void kv_fp8_decode(const uint8_t* codes, int64_t n, const KvScale* scales, float* x) {
  for (int64_t i = 0; i < n; ++i) x[i] = kFp8E4m3[codes[i]] * scales[i].out;
}

float kv_fp8_dynamic_encode(const float* x, int64_t n, uint8_t* codes) {
  float amax = 1e-6F;
  for (int64_t i = 0; i < n; ++i) amax = std::max(amax, std::fabs(x[i]));
  const float scale = rounded_bf16(amax / 448.0F);
  for (int64_t i = 0; i < n; ++i) codes[i] = fp8_encode(x[i] / scale);
  return scale;
}

void kv_fp8_dynamic_decode(const uint8_t* codes, int64_t n, float scale, float* x) {
  for (int64_t i = 0; i < n; ++i) x[i] = kFp8E4m3[codes[i]] * scale;
}

void kv_int4_encode(const float* x, int64_t n, const KvScale* scales, const float* zeros,
                    uint8_t* packed) {
  for (int64_t i = 0; i < n; i += 2) {
    const int low = round_even(x[i] * scales[i].factor + zeros[i], 7) + 8;
    const int high = round_even(x[i + 1] * scales[i + 1].factor + zeros[i + 1], 7) + 8;
    packed[i / 2] = static_cast<uint8_t>(low | high << 4);
  }
}

void kv_int4_decode(const uint8_t* packed, int64_t n, const KvScale* scales, const float* zeros,
                    float* x) {
  for (int64_t i = 0; i < n; ++i) {
    const int u = packed[i / 2] >> (i % 2 * 4) & 15;
    x[i] = (static_cast<float>(u - 8) - zeros[i]) * scales[i].out;
  }
}

}  // namespace erne
