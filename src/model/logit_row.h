// Sums over one row of logits, in double.
#pragma once

#include <cstdint>
#include <span>

namespace erne {

/// log(sum of exp(row)); not a number where any logit is infinite or not a number.
double log_sum_exp(std::span<const float> row);

/// The index of the largest logit, the first of equals.
int32_t argmax(std::span<const float> row);

/// How two rows of logits over one vocabulary differ. Every figure is not a number where any logit
/// is infinite or not a number.
struct RowDifference {
  double kl = 0;            ///< KL(baseline || model), nats; at least 0
  double logit_error = 0;   ///< mean |baseline - model|
  double baseline_nll = 0;  ///< -log of the baseline's probability of `target`, nats
  double nll = 0;           ///< the same of the model
  bool same_top = false;    ///< argmax of both is equal
};

/// baseline, model: [V]; target in [0, V).
RowDifference compare_rows(std::span<const float> baseline, std::span<const float> model,
                           int32_t target);

}  // namespace erne
