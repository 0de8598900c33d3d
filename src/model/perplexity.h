// How well a model predicts a text: the mean negative log-likelihood of its tokens.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/window_run.h"

namespace erne {

/// A mean over tokens and its standard error, sqrt(variance / (n - 1)), as if tokens were
/// independent; 0 for a single one.
struct Estimate {
  double mean = 0;
  double standard_error = 0;
};

Estimate estimate(std::span<const double> values);

struct PerplexityReport {
  std::vector<double> token_nll;  ///< -log p of each scored token in nats, in the text's order
  Estimate nll;

  double perplexity() const;        ///< exp(mean nll)
  double perplexity_error() const;  ///< its standard error, to first order
};

/// Runs the text through the model. Bit-equal for every chunk, batch and number of threads. Besides
/// run_windows' errors: Error{kCorrupt} naming the token where a logit is infinite or not a number.
PerplexityReport measure_perplexity(const TextModel& model, Device& device, const TextWindows& text,
                                    const WindowRunOptions& options);

}  // namespace erne
