#include "cpu/kv_cache.h"

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

}  // namespace

KvLayout kv_layout(const KvCacheSpec& spec) {
  if (spec.block_tokens <= 0 || spec.block_tokens % kKvPanel != 0) {
    fail(Code::kUnsupported, "KV block size must be a multiple of {} on the CPU, got {}", kKvPanel,
         spec.block_tokens);
  }
  if (spec.head_dim <= 0 || spec.head_dim % 2 != 0) {
    fail(Code::kUnsupported, "head_dim must be even, got {}", spec.head_dim);
  }
  if (spec.dtype != DType::kF32 && spec.dtype != DType::kBF16) {
    fail(Code::kUnsupported, "KV cache type must be float32 or bfloat16, got {}",
         dtype_name(spec.dtype));
  }
  const auto element = static_cast<int64_t>(dtype_bytes(spec.dtype));
  KvLayout layout;
  layout.block_tokens = spec.block_tokens;
  layout.head_dim = spec.head_dim;
  layout.v_width = (spec.head_dim + 15) / 16 * 16;
  layout.bf16 = spec.dtype == DType::kBF16;
  layout.v_offset = int64_t{spec.block_tokens} * spec.head_dim * element;
  layout.head_bytes = layout.v_offset + int64_t{spec.block_tokens} * layout.v_width * element;
  layout.layer_bytes = layout.head_bytes * spec.kv_heads;
  layout.block_bytes = layout.layer_bytes * spec.layers;
  return layout;
}

void store_kv(const KvLayout& layout, uint8_t* layer_base, int32_t block, int32_t slot,
              int32_t kv_heads, const void* kv) {
  const int64_t element = layout.bf16 ? 2 : 4;
  const int64_t head_size = layout.head_dim * element;
  const auto* keys = static_cast<const uint8_t*>(kv);
  const uint8_t* values = keys + kv_heads * head_size;
  uint8_t* head = layer_base + block * layout.block_bytes;
  for (int32_t h = 0; h < kv_heads;
       ++h, head += layout.head_bytes, keys += head_size, values += head_size) {
    uint8_t* v = head + layout.v_offset;
    if (!layout.bf16) {
      store_key<float>(head, slot, layout.head_dim, keys);
      std::memcpy(v + int64_t{slot} * layout.v_width * element, values,
                  static_cast<size_t>(head_size));
      continue;
    }
    store_key<uint32_t>(head, slot, layout.head_dim / 2, keys);
    auto* pairs = reinterpret_cast<uint16_t*>(v) + slot / 2 * 2 * layout.v_width + slot % 2;
    const auto* source = reinterpret_cast<const uint16_t*>(values);
    for (int32_t d = 0; d < layout.head_dim; ++d) pairs[2 * d] = source[d];
  }
}

}  // namespace erne::cpu
