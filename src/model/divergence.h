// How far a model's predictions on a text are from a baseline's: what a lower precision or a
// quantised weight costs.
#pragma once

#include <cstdint>

#include "model/perplexity.h"
#include "model/window_run.h"

namespace erne {

struct DivergenceReport {
  int64_t tokens = 0;  ///< scored
  Estimate kl;         ///< KL(baseline || model) per token, nats
  double kl_p99 = 0;   ///< 99 of 100 tokens have at most this (nearest rank)
  double kl_max = 0;
  double top1 = 0;         ///< share of tokens where both rank the same token first
  double logit_error = 0;  ///< mean |baseline - model| over tokens and vocabulary
  Estimate baseline_nll;   ///< nats per token
  Estimate nll;
  Estimate nll_difference;  ///< model less baseline, paired by token: exp is the ppl ratio
};

/// Runs the text through both models in lockstep. Bit-equal for every chunk, batch and number of
/// threads; exactly 0, 1, 0 for a model held against itself. Memory: twice run_windows'. Errors as
/// of measure_perplexity.
DivergenceReport measure_divergence(const TextModel& baseline, const TextModel& model,
                                    Device& device, const TextWindows& text,
                                    const WindowRunOptions& options);

}  // namespace erne
