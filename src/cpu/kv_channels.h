// Fixed scales of an 8-bit KV cache (spec quantization.md 6, static): keys and values become whole
// codes before they are stored, with a scale of 1 a position; the keys' scales are taken in by the
// queries, the values' by the output. So attention kernels need not know.
#pragma once

#include "device/device.h"

namespace erne::cpu {

/// One row of qkv, rotated: q := q * key_out, k := code of k * key_factor, v alike. Codes are
/// integers within +-127 (kI8), halves to even, or e4m3fn values within +-448; NaN stays NaN.
void encode_channels(const KvCacheSpec& spec, int num_heads, const KvChannels& channels, void* qkv,
                     bool bf16_row);

/// One row [N D] of attention's output: out := out * value_out.
void decode_channels(const KvCacheSpec& spec, int num_heads, const KvChannels& channels, void* out,
                     bool bf16_row);

}  // namespace erne::cpu
