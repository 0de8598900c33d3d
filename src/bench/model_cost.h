// What a step must read and multiply at least, from the shapes alone: the numerators of every
// "share of a limit" (design.md 7).
#pragma once

#include <cstdint>
#include <optional>

#include "model/config.h"

namespace erne::bench {

struct StepCost {
  double bytes = 0;  ///< weights and KV that must be read
  double flops = 0;  ///< two per multiply-add
};

/// One decode token for each of `batch` sequences that have `context` positions. Experts are
/// counted once each, as many as `batch` independent choices of top_k are expected to touch.
/// `cache` is the type of the KV cache; absent: dtype.
StepCost decode_cost(const TextConfig& config, DType dtype, int64_t batch, double context,
                     std::optional<DType> cache = {});

/// A prompt of `tokens` tokens, with logits for its last one.
StepCost prefill_cost(const TextConfig& config, DType dtype, int64_t tokens,
                      std::optional<DType> cache = {});

}  // namespace erne::bench
