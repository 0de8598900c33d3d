#include "gpu/kv_layout.h"

#include "base/error.h"

namespace erne::gpu {
namespace {

KvType kv_type(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return KvType::kF32;
    case DType::kBF16:
      return KvType::kBF16;
    case DType::kI8:
      return KvType::kInt8;
    case DType::kF8E4M3:
      return KvType::kFp8;
    default:
      fail(Code::kUnsupported,
           "KV cache type must be float32, bfloat16, int8 or float8_e4m3, got {}",
           dtype_name(dtype));
  }
}

// Sizes of one layer and block.
struct Sizes {
  KvType type;
  int64_t row;       // elements
  int64_t rows;      // of K and V, all heads
  int64_t elements;  // bytes
  int64_t scales;    // bytes
};

Sizes sizes(const KvCacheSpec& spec) {
  if (spec.head_dim <= 0 || spec.head_dim % 2 != 0 || spec.head_dim > kMostHeadDim) {
    fail(Code::kUnsupported, "head_dim must be even and at most {} on a GPU, got {}", kMostHeadDim,
         spec.head_dim);
  }
  if (spec.fixed_scales) {
    fail(Code::kUnsupported,
         "a KV cache with the checkpoint's own scales is not available on a GPU in this version; "
         "take --kv-cache-dtype bfloat16");
  }
  ERNE_CHECK(spec.block_tokens > 0 && spec.kv_heads > 0 && spec.layers > 0);
  Sizes s{};
  s.type = kv_type(spec.dtype);
  s.row = (spec.head_dim + 15) / 16 * 16;
  s.rows = 2 * int64_t{spec.kv_heads} * spec.block_tokens;
  s.elements = s.rows * s.row * static_cast<int64_t>(dtype_bytes(spec.dtype));
  const bool scaled = s.type == KvType::kInt8 || s.type == KvType::kFp8;
  s.scales = scaled ? s.rows * static_cast<int64_t>(sizeof(bf16)) : 0;
  return s;
}

}  // namespace

size_t block_bytes(const KvCacheSpec& spec) {
  const Sizes s = sizes(spec);
  return static_cast<size_t>(spec.layers * (s.elements + s.scales));
}

KvLayer kv_layer(const KvCache& cache, int layer) {
  const Sizes s = sizes(cache.spec);
  const int64_t blocks = cache.num_blocks;
  // The step writes through what is otherwise a reader's cache: constness is the caller's.
  auto* data = static_cast<uint8_t*>(const_cast<void*>(cache.data.data()));
  KvLayer kv;
  kv.type = s.type;
  kv.kv_heads = cache.spec.kv_heads;
  kv.head_dim = cache.spec.head_dim;
  kv.row = static_cast<int32_t>(s.row);
  kv.block_tokens = cache.spec.block_tokens;
  kv.data = data + layer * blocks * s.elements;
  kv.scales = reinterpret_cast<bf16*>(data + cache.spec.layers * blocks * s.elements +
                                      layer * blocks * s.scales);
  return kv;
}

}  // namespace erne::gpu
