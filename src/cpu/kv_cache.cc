#include "cpu/kv_cache.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/error.h"

namespace erne::cpu {
namespace {

// T holds a whole group: a float, or two adjacent bf16 key dimensions in 32 bits.
template <typename T>
void store_key(uint8_t* head, int32_t slot, int64_t groups, const void* src) {
  auto* dst = reinterpret_cast<T*>(head) + slot / kKvPanel * groups * kKvPanel + slot % kKvPanel;
  for (int64_t g = 0; g < groups; ++g) {
    std::memcpy(dst + g * kKvPanel,
                static_cast<const uint8_t*>(src) + static_cast<size_t>(g) * sizeof(T), sizeof(T));
  }
}

/// Place of element d of a position's keys, where a group is of dimensions.
int64_t key_at(const KvLayout& layout, int32_t slot, int64_t d) {
  const int64_t g = kv_group(layout.type);
  const int64_t row = slot / kKvPanel * (layout.key_width / g) + d / g;
  return (row * kKvPanel + slot % kKvPanel) * g + place_in_group(layout.type, d);
}
/// And of its values, where a group is of positions.
int64_t value_at(const KvLayout& layout, int32_t slot, int64_t d) {
  const int64_t g = kv_group(layout.type);
  return (slot / g * layout.v_width + d) * g + place_in_group(layout.type, slot);
}

void store_values(const KvLayout& layout, uint8_t* head, int32_t slot, const uint16_t* source) {
  auto* pairs = reinterpret_cast<uint16_t*>(head + layout.v_offset) + value_at(layout, slot, 0);
  for (int64_t d = 0; d < layout.head_dim; ++d) pairs[2 * d] = source[d];
}

/// f32 rows into a bf16 cache.
void store_rounded(const KvLayout& layout, uint8_t* head, int32_t slot, const float* keys,
                   const float* values) {
  auto* k = reinterpret_cast<bf16*>(head);
  auto* v = reinterpret_cast<bf16*>(head + layout.v_offset);
  for (int64_t d = 0; d < layout.head_dim; ++d) {
    k[key_at(layout, slot, d)] = to_bf16(keys[d]);
    v[value_at(layout, slot, d)] = to_bf16(values[d]);
  }
}

/// bf16(max |x| / the largest code), 1 for rows of zeros; NaN where x has one.
template <typename T>
bf16 scale_of(const T* x, int64_t count, KvType type) {
  uint32_t largest = 0;  // magnitudes order like their bits, NaN above all
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t magnitude = std::bit_cast<uint32_t>(to_f32(x[i])) & 0x7FFFFFFFU;
    largest = magnitude > largest ? magnitude : largest;
  }
  const auto amax = std::bit_cast<float>(largest);
  if (amax < 0x1p-100F) return to_bf16(1.0F);
  return to_bf16(amax / (type == KvType::kI8 ? 127.0F : 448.0F));
}

/// x to the nearest whole number, ties to even, within +-127.
uint8_t int8_code(float x) {
  constexpr float kMagic = 0x1.8p23F;  // its last bit is worth 1
  const float high = x < 127.0F ? x : 127.0F;
  const float clipped = high > -127.0F ? high : -127.0F;
  return static_cast<uint8_t>(std::bit_cast<uint32_t>(clipped + kMagic));
}

/// Calls place(d, code) for each element of a row, and returns the scale.
template <typename T, typename Place>
bf16 encode(const T* x, const KvLayout& layout, Place place) {
  constexpr int64_t kPiece = 64;
  bf16 rounded = scale_of(x, layout.head_dim, layout.type);
  if (layout.fixed_scales && !std::isnan(to_f32(rounded))) rounded = to_bf16(1.0F);
  const float scale = to_f32(rounded);
  for (int64_t first = 0; first < layout.head_dim; first += kPiece) {
    const int64_t count = std::min<int64_t>(kPiece, layout.head_dim - first);
    uint8_t codes[kPiece];
    if (layout.type == KvType::kI8) {
      for (int64_t i = 0; i < count; ++i) codes[i] = int8_code(to_f32(x[first + i]) / scale);
    } else {
      for (int64_t i = 0; i < count; ++i) codes[i] = to_f8e4m3(to_f32(x[first + i]) / scale).bits;
    }
    for (int64_t i = 0; i < count; ++i) place(first + i, codes[i]);
  }
  return rounded;
}

/// Codes of one position and kv head, and their scales (spec quantization.md 6, dynamic).
template <typename T>
void store_codes(const KvLayout& layout, uint8_t* head, int32_t slot, const void* keys,
                 const void* values) {
  auto* scales = reinterpret_cast<bf16*>(head + layout.scales_offset) + slot;
  uint8_t* v = head + layout.v_offset;
  scales[0] = encode(static_cast<const T*>(keys), layout,
                     [&](int64_t d, uint8_t code) { head[key_at(layout, slot, d)] = code; });
  scales[layout.block_tokens] =
      encode(static_cast<const T*>(values), layout,
             [&](int64_t d, uint8_t code) { v[value_at(layout, slot, d)] = code; });
}

KvType kv_type(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return KvType::kF32;
    case DType::kBF16:
      return KvType::kBF16;
    case DType::kI8:
      return KvType::kI8;
    case DType::kF8E4M3:
      return KvType::kF8;
    default:
      fail(Code::kUnsupported,
           "KV cache type must be float32, bfloat16, int8 or float8_e4m3, got {}",
           dtype_name(dtype));
  }
}

}  // namespace

KvLayout kv_layout(const KvCacheSpec& spec) {
  if (spec.block_tokens <= 0 || spec.block_tokens % kKvPanel != 0) {
    fail(Code::kUnsupported, "KV block size must be a multiple of {} on the CPU, got {}", kKvPanel,
         spec.block_tokens);
  }
  if (spec.head_dim <= 0 || spec.head_dim % 2 != 0) {
    fail(Code::kUnsupported, "head_dim must be even, got {}", spec.head_dim);
  }
  const auto element = static_cast<int64_t>(dtype_bytes(spec.dtype));
  KvLayout layout;
  layout.type = kv_type(spec.dtype);
  layout.fixed_scales = spec.fixed_scales;
  layout.element_bytes = static_cast<int32_t>(element);
  layout.block_tokens = spec.block_tokens;
  layout.head_dim = spec.head_dim;
  const int32_t group = kv_group(layout.type);
  layout.key_width = (spec.head_dim + group - 1) / group * group;
  layout.v_width = (spec.head_dim + 15) / 16 * 16;
  layout.v_offset = int64_t{spec.block_tokens} * layout.key_width * element;
  layout.scales_offset = layout.v_offset + int64_t{spec.block_tokens} * layout.v_width * element;
  layout.head_bytes = layout.scales_offset + (has_scales(layout.type) ? 4 * spec.block_tokens : 0);
  layout.layer_bytes = layout.head_bytes * spec.kv_heads;
  layout.block_bytes = layout.layer_bytes * spec.layers;
  return layout;
}

void store_kv(const KvLayout& layout, uint8_t* layer_base, int32_t block, int32_t slot,
              int32_t kv_heads, const void* kv, bool bf16_rows) {
  const int64_t head_size = layout.head_dim * (bf16_rows ? 2 : 4);
  const auto* keys = static_cast<const uint8_t*>(kv);
  const uint8_t* values = keys + kv_heads * head_size;
  uint8_t* head = layer_base + block * layout.block_bytes;
  for (int32_t h = 0; h < kv_heads;
       ++h, head += layout.head_bytes, keys += head_size, values += head_size) {
    if (has_scales(layout.type) && bf16_rows) {
      store_codes<bf16>(layout, head, slot, keys, values);
    } else if (has_scales(layout.type)) {
      store_codes<float>(layout, head, slot, keys, values);
    } else if (layout.type == KvType::kF32) {
      store_key<float>(head, slot, layout.head_dim, keys);
      std::memcpy(head + layout.v_offset + int64_t{slot} * layout.v_width * 4, values,
                  static_cast<size_t>(head_size));
    } else if (bf16_rows) {
      store_key<uint32_t>(head, slot, layout.head_dim / 2, keys);
      store_values(layout, head, slot, reinterpret_cast<const uint16_t*>(values));
    } else {
      store_rounded(layout, head, slot, reinterpret_cast<const float*>(keys),
                    reinterpret_cast<const float*>(values));
    }
  }
}

}  // namespace erne::cpu
