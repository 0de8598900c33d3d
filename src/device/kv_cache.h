// The paged KV cache: its shape, its memory, and scales that a checkpoint brings.
#pragma once

#include <cstdint>

#include "tensor/buffer.h"
#include "tensor/dtype.h"

namespace erne {

/// Shape of the paged KV cache. One block holds block_tokens positions of one sequence, for all
/// layers and heads.
struct KvCacheSpec {
  int layers = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int block_tokens = 16;
  /// kF32, kBF16, or codes of 8 bits with a scale for each token, kv head, and K or V: kI8, kF8E4M3
  /// (spec quantization.md 6, dynamic). kF32 goes with f32 computation only.
  DType dtype = DType::kBF16;
  bool fixed_scales = false;  ///< of the codes, instead: every call brings them (KvChannels)
};

/// Fixed scales of a layer, [kv_heads * head_dim]: code = rounded x * factor, value = code * out.
struct KvChannels {
  const float* key_factor;
  const float* key_out;
  const float* value_factor;
  const float* value_out;
};

/// The cache's memory; the layout inside a block is the device's own.
struct KvCache {
  KvCacheSpec spec;
  int32_t num_blocks = 0;
  Buffer data;
};

}  // namespace erne
