// The CPU's KV blocks (KvLayout in kernels.h): keys transposed in panels of 16 positions, so that
// scores need no horizontal sums; values by position.
#pragma once

#include "cpu/kernels.h"
#include "device/device.h"

namespace erne::cpu {

/// Throws Error{kUnsupported} unless block_tokens is a multiple of 16, head_dim even and dtype
/// kF32, kBF16, kI8 or kF8E4M3.
KvLayout kv_layout(const KvCacheSpec& spec);

/// Writes a token's keys [kv_heads * D] and values behind them, bf16 or f32, to its place, rounded
/// where the cache holds less; layer_base is the layer's start in block 0. bf16 rows do not go into
/// an f32 cache.
void store_kv(const KvLayout& layout, uint8_t* layer_base, int32_t block, int32_t slot,
              int32_t kv_heads, const void* kv, bool bf16_rows);

}  // namespace erne::cpu
