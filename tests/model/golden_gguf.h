// Goldens as GGUF files.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "model/checkpoint.h"
#include "model/layout.h"
#include "support/gguf_builder.h"

namespace erne::testing_support {

/// Every value of a matrix.
inline std::vector<float> rows_of(const Checkpoint& checkpoint, const ExpectedTensor& tensor) {
  const MatrixView view = checkpoint.matrix(tensor.name, tensor.rows, tensor.cols);
  std::vector<float> values(static_cast<size_t>(tensor.rows * tensor.cols));
  for (int64_t r = 0; r < tensor.rows; ++r) read_row_f32(view, r, values.data() + r * tensor.cols);
  return values;
}

inline std::span<const std::byte> bytes_of(const std::vector<float>& values) {
  return std::as_bytes(std::span(values));
}

/// A tensor as the file gets it.
struct GgufData {
  uint32_t type;
  std::string bytes;
};
using GgufEncoder = std::function<GgufData(const std::string& name, const std::vector<float>&)>;

inline GgufData as_f32(const std::string& /*name*/, const std::vector<float>& values) {
  return {0, {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)}};
}

/// The golden as llama.cpp would name it. F32 by default, so that the conversion to float32 must
/// keep every bit.
inline GgufBuilder golden_gguf(const Checkpoint& checkpoint, const std::string& architecture,
                               const GgufEncoder& encode = as_f32) {
  const TextConfig& c = checkpoint.config();
  const auto key = [&](const char* name) { return architecture + "." + name; };
  const auto u32 = [](int64_t value) { return static_cast<uint32_t>(value); };
  GgufBuilder gguf;
  gguf.text("general.architecture", architecture).text("general.name", "golden");
  gguf.u32(key("block_count"), u32(c.num_layers))
      .u32(key("context_length"), u32(c.max_position_embeddings));
  gguf.u32(key("embedding_length"), u32(c.hidden_size))
      .u32(key("feed_forward_length"), u32(c.intermediate_size));
  gguf.u32(key("attention.head_count"), u32(c.num_heads))
      .u32(key("attention.head_count_kv"), u32(c.kv_heads));
  gguf.u32(key("attention.key_length"), u32(c.head_dim))
      .u32(key("attention.value_length"), u32(c.head_dim));
  gguf.f32(key("rope.freq_base"), static_cast<float>(c.rope_theta));
  gguf.f32(key("attention.layer_norm_rms_epsilon"), c.rms_norm_eps);
  if (c.is_moe()) {
    gguf.u32(key("expert_count"), u32(c.num_experts))
        .u32(key("expert_used_count"), u32(c.moe_top_k));
    gguf.u32(key("expert_feed_forward_length"), u32(c.moe_intermediate_size));
    gguf.u32(key("interleave_moe_layer_step"), u32(c.moe_layer_interval));
    gguf.u32(key("leading_dense_block_count"), u32(c.moe_layer_start));
  }
  const auto put = [&](const std::string& name, const std::vector<int64_t>& shape,
                       const std::vector<float>& values) {
    const GgufData data = encode(name, values);
    gguf.tensor(name, shape, data.type, std::as_bytes(std::span(data.bytes)));
  };
  const auto add = [&](const std::string& name, const std::string& pt, std::vector<int64_t> shape) {
    const int64_t rows = shape.size() == 1 ? 1 : shape.front();
    put(name, shape, rows_of(checkpoint, {pt, TensorKind::kLinear, rows, shape.back()}));
  };
  const auto mlp = [&](const std::string& blk, const std::string& pt, const char* suffix,
                       int64_t width) {
    add(blk + "ffn_gate" + suffix, pt + "gate_proj.weight", {width, c.hidden_size});
    add(blk + "ffn_up" + suffix, pt + "up_proj.weight", {width, c.hidden_size});
    add(blk + "ffn_down" + suffix, pt + "down_proj.weight", {c.hidden_size, width});
  };
  add("token_embd.weight", "model.embed_tokens.weight", {c.vocab_size, c.hidden_size});
  add("output_norm.weight", "model.norm.weight", {c.hidden_size});
  if (!c.tie_word_embeddings) add("output.weight", "lm_head.weight", {c.vocab_size, c.hidden_size});
  for (int i = 0; i < c.num_layers; ++i) {
    const std::string blk = fmt::format("blk.{}.", i);
    const std::string pt = fmt::format("model.layers.{}.", i);
    add(blk + "attn_norm.weight", pt + "input_layernorm.weight", {c.hidden_size});
    add(blk + "ffn_norm.weight", pt + "post_attention_layernorm.weight", {c.hidden_size});
    add(blk + "attn_q.weight", pt + "self_attn.q_proj.weight", {c.q_size(), c.hidden_size});
    add(blk + "attn_k.weight", pt + "self_attn.k_proj.weight", {c.kv_size(), c.hidden_size});
    add(blk + "attn_v.weight", pt + "self_attn.v_proj.weight", {c.kv_size(), c.hidden_size});
    add(blk + "attn_output.weight", pt + "self_attn.o_proj.weight", {c.hidden_size, c.q_size()});
    if (!c.is_moe_layer(i)) {
      mlp(blk, pt + "mlp.", ".weight", c.intermediate_size);
      continue;
    }
    add(blk + "ffn_gate_inp.weight", pt + "mlp.gate.weight", {c.num_experts, c.hidden_size});
    add(blk + "exp_probs_b.bias", pt + "mlp.moe_statics.e_score_correction_bias", {c.num_experts});
    for (const char* part : {"gate", "up", "down"}) {
      const bool down = std::string_view(part) == "down";
      const int64_t rows = down ? c.hidden_size : c.moe_intermediate_size;
      const int64_t cols = down ? c.moe_intermediate_size : c.hidden_size;
      std::vector<float> all;
      for (int e = 0; e < c.num_experts; ++e) {
        const std::vector<float> one =
            rows_of(checkpoint, {fmt::format("{}mlp.experts.{}.{}_proj.weight", pt, e, part),
                                 TensorKind::kLinear, rows, cols});
        all.insert(all.end(), one.begin(), one.end());
      }
      put(fmt::format("{}ffn_{}_exps.weight", blk, part), {c.num_experts, rows, cols}, all);
    }
    if (c.num_shared_experts > 0) {
      mlp(blk, pt + "mlp.shared_experts.", "_shexp.weight",
          c.num_shared_experts * c.moe_intermediate_size);
    }
  }
  return gguf;
}

/// A byte-level vocabulary of four tokens.
inline GgufBuilder& small_tokenizer(GgufBuilder& gguf) {
  gguf.text("tokenizer.ggml.model", "gpt2").text("tokenizer.ggml.pre", "smollm");
  gguf.texts("tokenizer.ggml.tokens", {"<|end|>", "a", "b", "ab"})
      .i32s("tokenizer.ggml.token_type", {3, 1, 1, 1});
  gguf.texts("tokenizer.ggml.merges", {"a b"}).u32("tokenizer.ggml.eos_token_id", 0);
  return gguf;
}

}  // namespace erne::testing_support
