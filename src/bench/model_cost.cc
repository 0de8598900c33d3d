#include "bench/model_cost.h"

#include <cmath>

namespace erne::bench {
namespace {

// Multiply-adds of one token through all linear layers but the head.
double linear_macs(const TextConfig& c) {
  const auto hidden = static_cast<double>(c.hidden_size);
  double macs = 0;
  for (int layer = 0; layer < c.num_layers; ++layer) {
    macs += hidden * static_cast<double>(2 * c.q_size() + 2 * c.kv_size());
    if (c.is_moe_layer(layer)) {
      macs += 3 * hidden * static_cast<double>(c.moe_intermediate_size) *
              (c.moe_top_k + c.num_shared_experts);
      macs += hidden * c.num_experts;
    } else {
      macs += 3 * hidden * static_cast<double>(c.intermediate_size);
    }
  }
  return macs;
}

double head_macs(const TextConfig& c) {
  return static_cast<double>(c.hidden_size) * static_cast<double>(c.vocab_size);
}

// Weight elements that a step of `tokens` tokens reads. The router is float32: counted twice for
// bfloat16, nearly.
double weights_read(const TextConfig& c, int64_t tokens) {
  const auto hidden = static_cast<double>(c.hidden_size);
  double extra = 0;  // experts beyond those of one token
  if (c.num_experts > 0) {
    const double share = static_cast<double>(c.moe_top_k) / c.num_experts;
    const double touched = c.num_experts * (1 - std::pow(1 - share, static_cast<double>(tokens)));
    for (int layer = 0; layer < c.num_layers; ++layer) {
      if (c.is_moe_layer(layer))
        extra +=
            3 * hidden * static_cast<double>(c.moe_intermediate_size) * (touched - c.moe_top_k);
    }
  }
  return linear_macs(c) + head_macs(c) + extra;
}

// Bytes of a position. Types of one byte have a scale of two for each head, K and V.
double kv_bytes(const TextConfig& c, DType cache) {
  const auto element = static_cast<double>(dtype_bytes(cache));
  const double scale = element == 1 ? 2.0 / c.head_dim : 0;
  return 2.0 * c.num_layers * static_cast<double>(c.kv_size()) * (element + scale);
}

// Scores and weighted sums over one position, for all layers.
double attention_macs(const TextConfig& c) {
  return 2.0 * c.num_layers * static_cast<double>(c.q_size());
}

}  // namespace

StoredBytes stored_bytes(const TextConfig& c, uint64_t packed_bytes, DType cache) {
  double weights = linear_macs(c) + head_macs(c);
  for (int layer = 0; layer < c.num_layers; ++layer) {
    if (c.is_moe_layer(layer)) {
      weights += 3 * static_cast<double>(c.hidden_size * c.moe_intermediate_size) *
                 (c.num_experts - c.moe_top_k);
    }
  }
  return {static_cast<double>(packed_bytes) / weights, cache};
}

StepCost decode_cost(const TextConfig& c, StoredBytes stored, int64_t batch, double context) {
  const auto sequences = static_cast<double>(batch);
  return {stored.weight * weights_read(c, batch) + sequences * context * kv_bytes(c, stored.cache),
          2 * sequences * (linear_macs(c) + head_macs(c) + context * attention_macs(c))};
}

StepCost prefill_cost(const TextConfig& c, StoredBytes stored, int64_t tokens) {
  const auto length = static_cast<double>(tokens);
  const double pairs = length * (length + 1) / 2;  // causal
  return {stored.weight * weights_read(c, tokens) + length * kv_bytes(c, stored.cache),
          2 * (length * linear_macs(c) + head_macs(c) + pairs * attention_macs(c))};
}

}  // namespace erne::bench
