#include "cpu/kv_channels.h"

#include <cmath>

namespace erne::cpu {
namespace {

/// x[i] := change(x[i], i) for `count` values of a row.
template <typename T, typename Change>
void each(T* x, int64_t count, Change change) {
  for (int64_t i = 0; i < count; ++i) {
    const float value = change(to_f32(x[i]), i);
    if constexpr (sizeof(T) == 2) {
      x[i] = to_bf16(value);
    } else {
      x[i] = value;
    }
  }
}

float code_of(float x, DType type) {
  if (type == DType::kF8E4M3) return std::isnan(x) ? x : to_f32(to_f8e4m3(x));
  return x > 127 ? 127.0F : x < -127 ? -127.0F : std::nearbyint(x);
}

/// Multiplies every query head's channels with those of its kv head.
template <typename T>
void scale_heads(const KvCacheSpec& spec, int num_heads, const float* scales, T* x) {
  const int group = num_heads / spec.kv_heads;
  for (int h = 0; h < num_heads; ++h, x += spec.head_dim) {
    const float* scale = scales + h / group * spec.head_dim;
    each(x, spec.head_dim, [&](float value, int64_t i) { return value * scale[i]; });
  }
}

template <typename T>
void encode(const KvCacheSpec& spec, int num_heads, const KvChannels& channels, T* qkv) {
  scale_heads(spec, num_heads, channels.key_out, qkv);
  const int64_t width = int64_t{spec.kv_heads} * spec.head_dim;
  T* keys = qkv + int64_t{num_heads} * spec.head_dim;
  for (const float* factor : {channels.key_factor, channels.value_factor}) {
    each(keys, width,
         [&](float value, int64_t i) { return code_of(value * factor[i], spec.dtype); });
    keys += width;
  }
}

}  // namespace

void encode_channels(const KvCacheSpec& spec, int num_heads, const KvChannels& channels, void* qkv,
                     bool bf16_row) {
  bf16_row ? encode(spec, num_heads, channels, static_cast<bf16*>(qkv))
           : encode(spec, num_heads, channels, static_cast<float*>(qkv));
}

void decode_channels(const KvCacheSpec& spec, int num_heads, const KvChannels& channels, void* out,
                     bool bf16_row) {
  bf16_row ? scale_heads(spec, num_heads, channels.value_out, static_cast<bf16*>(out))
           : scale_heads(spec, num_heads, channels.value_out, static_cast<float*>(out));
}

}  // namespace erne::cpu
