// What the operations of a step take besides tensors and weights: the ragged batch, the routing of
// its tokens to experts, and the arguments of the fused operations. Letters as in device.h.
#pragma once

#include <cstdint>
#include <span>

#include "device/kv_cache.h"
#include "tensor/tensor.h"

namespace erne {

/// What happens to the f32 sums of a linear before they are stored.
enum class Epilogue : uint8_t {
  kStore,    ///< y = sum (+ bias), in y's dtype (f32 or bf16)
  kAdd,      ///< y += sum (+ bias); y is f32, the residual stream
  kSiluMul,  ///< kGateUp only: y[:, i] = silu(gate_i) * up_i; y has n/2 columns
};

/// One ragged step: prefill chunks and decode tokens of many sequences side by side. Sequence s
/// owns tokens query_start[s] … query_start[s+1]-1, which are its last ones: they sit at positions
/// context_len[s] - count … context_len[s]-1.
struct Batch {
  std::span<const int32_t> token_ids;    ///< [T]
  std::span<const int32_t> positions;    ///< [T]
  std::span<const int32_t> query_start;  ///< [S + 1]
  std::span<const int32_t> context_len;  ///< [S] positions in the cache once this step has run
  std::span<const int32_t>
      block_table;  ///< [S, max_blocks] block ids; entries past a sequence's last block are unused
  int32_t max_blocks = 0;
  std::span<const int32_t> logit_rows;  ///< tokens whose logits are wanted, ascending

  int64_t num_tokens() const { return static_cast<int64_t>(token_ids.size()); }
  int64_t num_sequences() const { return static_cast<int64_t>(context_len.size()); }
};

/// Which experts each token chose, and the same list grouped by expert. Arrays live in the step's
/// arena, in the device's memory.
struct Routing {
  int64_t num_tokens = 0;
  int64_t top_k = 0;
  int64_t num_experts = 0;
  int32_t* expert_ids = nullptr;    ///< [T, top_k], by falling choice value, ties to the lower id
  float* weights = nullptr;         ///< [T, top_k], normalised
  int32_t* expert_start = nullptr;  ///< [E + 1] offsets into the grouped order
  int32_t* slot_token = nullptr;    ///< [T * top_k] grouped order -> token
  int32_t* slot_of = nullptr;       ///< [T, top_k] choice -> place in the grouped order
};

/// Which row of x feeds a grouped slot: the slot's token (x has T rows) or the slot itself (x has T
/// * top_k rows).
enum class ExpertRows : uint8_t { kByToken, kBySlot };

struct RouterArgs {
  const Tensor* weight;  ///< f32 [E, H], never quantised
  const float* bias;     ///< f32 [E] e_score_correction_bias: moves the choice, not the weights;
                         ///< in the device's memory
  int64_t top_k;
  float norm_min;  ///< weights /= max(sum, norm_min)
};

struct AttentionArgs {
  int layer;
  int num_heads;
  float scale;
  const KvChannels* channels = nullptr;  ///< with fixed_scales
};

/// Rotary table and heads for rope_store. inv_freq: f32 [D/2] in the device's memory.
struct RopeArgs {
  int layer;
  int num_heads;
  const float* inv_freq;
  const KvChannels* channels = nullptr;  ///< with fixed_scales
};

}  // namespace erne
