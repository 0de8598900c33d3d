// Rows of the KV cache: where they are, and their elements.
#pragma once

#include "gpu/kernels/attention.h"
#include "gpu/kernels/portable/weight_pieces.h"
#include "gpu/rt/gpu.h"

namespace erne::gpu {

enum class Part : int { kKey = 0, kValue = 1 };

constexpr bool coded(KvType type) { return type == KvType::kInt8 || type == KvType::kFp8; }
constexpr int element_bytes(KvType type) {
  return type == KvType::kF32 ? 4 : type == KvType::kBF16 ? 2 : 1;
}

/// Number of a position's row among all rows of the layer, which is also that of its scale.
GPU_DEVICE int64_t kv_row(const KvLayer& kv, int64_t block, Part part, int head, int64_t slot) {
  return ((block * 2 + static_cast<int>(part)) * kv.kv_heads + head) * kv.block_tokens + slot;
}

template <KvType kType>
constexpr WeightType piece_type() {
  switch (kType) {
    case KvType::kF32:
      return WeightType::kF32;
    case KvType::kBF16:
      return WeightType::kBF16;
    case KvType::kInt8:
      return WeightType::kInt8;
    default:
      return WeightType::kFp8;
  }
}

/// The code of x / scale, of one byte.
template <KvType kType>
GPU_DEVICE uint8_t encode(float x, float scale) {
  if constexpr (kType == KvType::kInt8) {
    const float code = x / scale;
    const float high = code < 127.0F ? code : 127.0F;
    const float clipped = high > -127.0F ? high : -127.0F;
    return static_cast<uint8_t>(static_cast<int>(gpu_rint(clipped)));
  } else {
    return to_f8e4m3(x / scale).bits;
  }
}

/// bf16(largest / the largest code), 1 for rows of zeros: spec quantization.md 6, dynamic.
template <KvType kType>
GPU_DEVICE bf16 scale_of(float largest) {
  if (largest < 0x1p-100F) return to_bf16(1.0F);
  return to_bf16(largest / (kType == KvType::kInt8 ? 127.0F : 448.0F));
}

}  // namespace erne::gpu
