// Rotary embedding with the write of keys and values, and causal attention over the paged cache.
#pragma once

#include <cstdint>

#include "gpu/rt/runtime.h"
#include "tensor/dtype.h"

namespace erne::gpu {

inline constexpr int kMostHeadDim = 256;
/// Positions whose softmax is one unit, counted from position 0: a row's arithmetic depends on its
/// position alone.
inline constexpr int kChunk = 256;

/// Elements of the cache; coded ones have a bf16 scale for each position, kv head, and K or V.
enum class KvType : uint8_t { kF32, kBF16, kInt8, kFp8 };

/// One layer of the cache: elements [block][K, V][kv head][position in block][row], row = head_dim
/// rounded up to 16, filled with 0; scales [block][K, V][kv head][position in block].
struct KvLayer {
  KvType type = KvType::kBF16;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  int32_t row = 0;
  int32_t block_tokens = 0;
  uint8_t* data = nullptr;
  bf16* scales = nullptr;
};

/// The step's tokens and sequences (Batch of device.h) in device memory.
struct StepArrays {
  int64_t tokens = 0;
  const int32_t* positions = nullptr;
  const int32_t* sequence_of = nullptr;  ///< [tokens]
  const int32_t* query_start = nullptr;
  const int32_t* block_table = nullptr;
  int32_t max_blocks = 0;
};

struct RopeStoreCall {
  void* qkv = nullptr;  ///< [tokens, (num_heads + 2 kv_heads) head_dim]; q is rotated in place
  bool bf16_rows = false;
  int32_t num_heads = 0;
  const float* inv_freq = nullptr;  ///< [head_dim / 2]
  StepArrays step;
  KvLayer kv;
};
void run_rope_store(Stream stream, const RopeStoreCall& call);

struct AttentionCall {
  const void* qkv = nullptr;
  bool bf16_rows = false;
  int32_t num_heads = 0;
  float scale = 0;
  StepArrays step;
  KvLayer kv;
  void* out = nullptr;  ///< [tokens, num_heads * head_dim] like qkv
  /// With `partials`, every chunk is a block's work and another kernel merges them; else a block
  /// goes through its chunks. Equal bits either way. f32 [tokens, num_heads, chunks, row + 2].
  float* partials = nullptr;
  int64_t chunks = 1;  ///< of the longest sequence, with `partials`
};
void run_attention(Stream stream, const AttentionCall& call);

}  // namespace erne::gpu
