// One layer of the decoder as ops calls (spec text.md 3), in the two halves that add to the
// residual stream: the model runs them in turn, calibration one at a time over many tokens.
#pragma once

#include <span>

#include "device/device.h"
#include "model/config.h"
#include "model/text_weights.h"
#include "ops/ctx.h"

namespace erne {

/// One step through the layers: what every layer needs besides its weights.
struct LayerStep {
  Ctx& ctx;
  const TextConfig& config;
  const Batch& batch;
  KvCache& cache;
  DType dtype;                       ///< of everything but the residual stream
  const Buffer& inv_freq;            ///< f32 [D / 2]
  std::span<const KvChannels> kv{};  ///< one a layer of a cache with fixed scales

  const KvChannels* channels(int layer) const {
    return kv.empty() ? nullptr : &kv[static_cast<size_t>(layer)];
  }
};

/// The input of o_proj: attention over the cache, of queries made from the normed h [T, H], whose
/// keys and values are stored first. `layer` counts in the cache.  -> [T, N D]
Tensor attention_outputs(const LayerStep& s, const Linear& qkv, int layer, const Tensor& h);

/// x += attention(norm(x)); x f32 [T, H]. Reads the first half of the weights.
void attention(const LayerStep& s, const LayerWeights& w, int layer, const Tensor& x);

/// x += mlp(norm(x)), or the mixture of experts. Reads the second half of the weights.
void feed_forward(const LayerStep& s, const LayerWeights& w, const Tensor& x);

}  // namespace erne
