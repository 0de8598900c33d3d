// What a step must read and multiply at least, from the shapes alone: the numerators of every
// "share of a limit" (design.md 7).
#pragma once

#include <cstdint>

#include "model/config.h"

namespace erne::bench {

struct StepCost {
  double bytes = 0;  ///< weights and KV that must be read
  double flops = 0;  ///< two per multiply-add
};

/// How large what a step reads is.
struct StoredBytes {
  double weight;  ///< of a linear weight on average, scales included; the router counts as one
  DType cache;    ///< type of the KV cache
};

/// From the bytes that packing all linears took.
StoredBytes stored_bytes(const TextConfig& config, uint64_t packed_bytes, DType cache);

/// One decode token for each of `batch` sequences that have `context` positions. Experts are
/// counted once each, as many as `batch` independent choices of top_k are expected to touch.
StepCost decode_cost(const TextConfig& config, StoredBytes stored, int64_t batch, double context);

/// A prompt of `tokens` tokens, with logits for its last one.
StepCost prefill_cost(const TextConfig& config, StoredBytes stored, int64_t tokens);

}  // namespace erne::bench
