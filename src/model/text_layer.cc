#include "model/text_layer.h"

#include <cmath>

#include "ops/ops.h"

namespace erne {
namespace {

// x += down(silu(gate h) * up h).
void mlp(const LayerStep& s, const MlpWeights& w, const Tensor& h, const Tensor& x) {
  const Arena::Mark mark(s.ctx.arena);
  ops::linear_add(s.ctx, ops::gated_linear(s.ctx, h, w.gate_up), w.down, x);
}

// x += sum of the chosen experts' weighted outputs + the shared experts' output.
void moe(const LayerStep& s, const MoeWeights& w, const Tensor& h, const Tensor& x) {
  const Arena::Mark mark(s.ctx.arena);
  const Routing routing = ops::route(
      s.ctx, h,
      {&w.gate, w.correction_bias.as<float>(), s.config.moe_top_k, s.config.moe_norm_min});
  const Tensor act = ops::expert_gated_linear(s.ctx, h, w.gate_up, routing);
  const Tensor y = ops::expert_linear(s.ctx, act, w.down, routing);
  ops::expert_combine(s.ctx, y, routing, x);
  if (w.shared) mlp(s, *w.shared, h, x);
}

}  // namespace

Tensor attention_outputs(const LayerStep& s, const Linear& qkv_proj, int layer, const Tensor& h) {
  const Tensor qkv = ops::linear(s.ctx, h, qkv_proj, s.dtype);
  const KvChannels* channels = s.channels(layer);
  ops::rope_store(s.ctx, qkv, s.batch,
                  {layer, s.config.num_heads, s.inv_freq.as<float>(), channels}, s.cache);
  const float scale = 1.0F / std::sqrt(static_cast<float>(s.config.head_dim));
  return ops::attention(s.ctx, qkv, s.batch, {layer, s.config.num_heads, scale, channels}, s.cache);
}

void attention(const LayerStep& s, const LayerWeights& w, int layer, const Tensor& x) {
  const Arena::Mark mark(s.ctx.arena);
  const Tensor h = ops::rms_norm(s.ctx, x, w.input_norm, s.config.rms_norm_eps, s.dtype);
  const Tensor o = attention_outputs(s, w.attention.qkv, layer, h);
  ops::linear_add(s.ctx, o, w.attention.o, x);
}

void feed_forward(const LayerStep& s, const LayerWeights& w, const Tensor& x) {
  const Arena::Mark mark(s.ctx.arena);
  const Tensor h = ops::rms_norm(s.ctx, x, w.post_attention_norm, s.config.rms_norm_eps, s.dtype);
  if (w.moe) {
    moe(s, *w.moe, h, x);
  } else {
    mlp(s, *w.mlp, h, x);
  }
}

}  // namespace erne
