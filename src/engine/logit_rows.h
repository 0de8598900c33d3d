// The passes over a whole row of logits that sampling needs, in vector registers: maxima,
// exponentials, thresholds. A row is seen in blocks of 64 ids. The result does not depend on the
// instruction set: eight lanes everywhere, no fused multiply-add.
#pragma once

#include <cstddef>

namespace erne::logit_rows {

inline constexpr size_t kBlock = 64;
constexpr size_t num_blocks(size_t size) { return (size + kBlock - 1) / kBlock; }

/// block_max[b] = largest logit of block b. False if any logit is NaN.
bool block_maxima(const float* row, size_t size, float* block_max);
/// weights[i] = exp((row[i] - max) * inverse_temperature), block_sum[b] = sum of a block's weights.
/// max: the row's largest. Relative error below 4e-7; 0 below exp(-87). weights may be row.
void weigh(const float* row, size_t size, float max, float inverse_temperature, float* weights,
           double* block_sum);
/// Zeroes weights below `least_until` at ids <= border and below `least_after` behind it; renews
/// the block sums.
void drop_light(float* weights, size_t size, float least_until, size_t border, float least_after,
                double* block_sum);
/// One weight, as weigh() computes it.
float weight(float logit, float max, float inverse_temperature);

}  // namespace erne::logit_rows
