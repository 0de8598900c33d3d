// Codes of keys and values in a KV cache (spec quantization.md 6): functions over the n channels of
// one token. Rounding is to nearest, halves to even. Factors and outs are exact in bf16.
#pragma once

#include <cstdint>

namespace erne {

/// What a checkpoint's absmax values become: codes are x * factor, values are code * out.
struct KvScale {
  float factor = 0;  ///< bf16(largest / absmax)
  float out = 0;     ///< bf16(absmax / largest)
};
/// largest: 127 for int8, 448 for fp8. absmax must be finite; 0 gives {0, 0}: a channel that was
/// always zero.
KvScale kv_scale(float absmax, float largest);

/// u = 128 + clip(rte(x * factor + zero), +-127), the value (u - 128 - zero) * out. `scales` [n],
/// `zeros` [n] or null for none. NaN becomes 0.
void kv_int8_encode(const float* x, int64_t n, const KvScale* scales, const float* zeros,
                    uint8_t* codes);
void kv_int8_decode(const uint8_t* codes, int64_t n, const KvScale* scales, const float* zeros,
                    float* x);

/// Static e4m3fn: x * factor saturated at 448; `scales` [n].
void kv_fp8_encode(const float* x, int64_t n, const KvScale* scales, uint8_t* codes);
void kv_fp8_decode(const uint8_t* codes, int64_t n, const KvScale* scales, float* x);

/// Dynamic e4m3fn, one scale for the n channels of a head: bf16(max(absmax, 1e-6) / 448), which is
/// returned. The value is code * scale.
float kv_fp8_dynamic_encode(const float* x, int64_t n, uint8_t* codes);
void kv_fp8_dynamic_decode(const uint8_t* codes, int64_t n, float scale, float* x);

/// u = 8 + clip(rte(x * factor + zero), +-7), two a byte, channel 2j in the low nibble; the value
/// is (u - 8 - zero) * out. n is even; `scales` and `zeros` [n]; packed [n / 2].
void kv_int4_encode(const float* x, int64_t n, const KvScale* scales, const float* zeros,
                    uint8_t* packed);
void kv_int4_decode(const uint8_t* packed, int64_t n, const KvScale* scales, const float* zeros,
                    float* x);

}  // namespace erne
