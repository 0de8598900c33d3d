// Checkpoint names (spec text.md 2.1) to packed weights. Packing reads the mapped file once,
// straight into the device's layout.
#include "model/text_weights.h"

#include <cmath>
#include <string>

#include "base/error.h"
#include "base/progress.h"
#include "model/checkpoint.h"

namespace erne {
namespace {

class Loader {
 public:
  Loader(const Checkpoint& checkpoint, Device& device, DType dtype)
      : checkpoint_(checkpoint), config_(checkpoint.config()), device_(device), dtype_(dtype) {}

  LayerWeights layer(int index) {
    const std::string prefix = fmt::format("model.layers.{}.", index);
    LayerWeights w;
    w.input_norm = checkpoint_.vector(prefix + "input_layernorm.weight", config_.hidden_size);
    w.post_attention_norm =
        checkpoint_.vector(prefix + "post_attention_layernorm.weight", config_.hidden_size);
    w.attention = attention(prefix + "self_attn.");
    if (config_.is_moe_layer(index)) {
      w.moe = moe(prefix + "mlp.");
    } else {
      w.mlp = mlp(prefix + "mlp.", config_.intermediate_size, config_.use_bias);
    }
    return w;
  }

  Linear lm_head() {
    const int64_t vocab = config_.vocab_size;
    // Only the MoE class gives its head a bias, tied or not, so its presence decides (spec
    // text.md 2.1).
    std::vector<float> bias;
    if (config_.use_bias && checkpoint_.has("lm_head.bias"))
      bias = checkpoint_.vector("lm_head.bias", vocab);
    const MatrixView weight =
        config_.tie_word_embeddings
            ? embedding()
            : checkpoint_.matrix("lm_head.weight", vocab, config_.hidden_size);
    return pack({weight}, LinearKind::kPlain, bias);
  }

  MatrixView embedding() const {
    return checkpoint_.matrix("model.embed_tokens.weight", config_.vocab_size, config_.hidden_size);
  }

  uint64_t bytes() const { return bytes_; }

 private:
  AttentionWeights attention(const std::string& prefix) {
    AttentionWeights w;
    w.qkv = stacked(prefix,
                    {{"q_proj", config_.q_size()},
                     {"k_proj", config_.kv_size()},
                     {"v_proj", config_.kv_size()}},
                    config_.hidden_size, LinearKind::kPlain, config_.use_bias);
    w.o = stacked(prefix, {{"o_proj", config_.hidden_size}}, config_.q_size(), LinearKind::kPlain,
                  config_.use_bias);
    return w;
  }

  MlpWeights mlp(const std::string& prefix, int64_t intermediate, bool has_bias) {
    MlpWeights w;
    w.gate_up = stacked(prefix, {{"gate_proj", intermediate}, {"up_proj", intermediate}},
                        config_.hidden_size, LinearKind::kGateUp, has_bias);
    w.down = stacked(prefix, {{"down_proj", config_.hidden_size}}, intermediate, LinearKind::kPlain,
                     has_bias);
    return w;
  }

  MoeWeights moe(const std::string& prefix) {
    MoeWeights w;
    const int64_t experts = config_.num_experts;
    const MatrixView gate =
        checkpoint_.matrix(prefix + "gate.weight", experts, config_.hidden_size);
    w.gate_data =
        device_.allocate(static_cast<size_t>(experts * config_.hidden_size) * sizeof(float));
    w.gate = {w.gate_data.data(), DType::kF32, {experts, config_.hidden_size}};
    for (int64_t e = 0; e < experts; ++e) {
      read_row_f32(gate, e, w.gate.ptr<float>() + e * config_.hidden_size);
    }
    bytes_ += w.gate_data.size();
    w.correction_bias = checkpoint_.vector(prefix + "moe_statics.e_score_correction_bias", experts);
    for (int64_t e = 0; e < experts; ++e) {
      MlpWeights expert =
          mlp(fmt::format("{}experts.{}.", prefix, e), config_.moe_intermediate_size, false);
      w.gate_up.push_back(std::move(expert.gate_up));
      w.down.push_back(std::move(expert.down));
    }
    if (config_.num_shared_experts > 0) {
      w.shared = mlp(prefix + "shared_experts.",
                     config_.num_shared_experts * config_.moe_intermediate_size, config_.use_bias);
    }
    return w;
  }

  struct Part {
    const char* name;
    int64_t rows;
  };

  Linear stacked(const std::string& prefix, std::initializer_list<Part> parts, int64_t cols,
                 LinearKind kind, bool has_bias) {
    std::vector<MatrixView> blocks;
    std::vector<float> bias;
    for (const Part& part : parts) {
      blocks.push_back(checkpoint_.matrix(prefix + part.name + ".weight", part.rows, cols));
      if (!has_bias) continue;
      const std::vector<float> values = checkpoint_.vector(prefix + part.name + ".bias", part.rows);
      bias.insert(bias.end(), values.begin(), values.end());
    }
    return pack(blocks, kind, bias);
  }

  Linear pack(const std::vector<MatrixView>& blocks, LinearKind kind, std::span<const float> bias) {
    Linear w = device_.pack_linear(blocks, dtype_, kind, bias);
    bytes_ += w.bytes();
    return w;
  }

  const Checkpoint& checkpoint_;
  const TextConfig& config_;
  Device& device_;
  DType dtype_;
  uint64_t bytes_ = 0;
};

// float32 power, then float32 reciprocal: computing in float64 moves 18 of 64 entries by one ulp.
std::vector<float> rope_inv_freq(int head_dim, double theta) {
  std::vector<float> inv_freq;
  for (int j = 0; j < head_dim; j += 2) {
    const float exponent = static_cast<float>(j) / static_cast<float>(head_dim);
    inv_freq.push_back(1.0F / std::pow(static_cast<float>(theta), exponent));
  }
  return inv_freq;
}

}  // namespace

TextWeights load_text_weights(const Checkpoint& checkpoint, Device& device,
                              const LoadOptions& options) {
  if (options.dtype != DType::kF32 && options.dtype != DType::kBF16) {
    fail(Code::kUnsupported, "cannot compute in {}: use float32 or bfloat16",
         dtype_name(options.dtype));
  }
  const TextConfig& config = checkpoint.config();
  TextWeights w;
  w.dtype = options.dtype;
  w.inv_freq = rope_inv_freq(config.head_dim, config.rope_theta);
  Loader loader(checkpoint, device, options.dtype);
  Progress progress("loading weights", static_cast<uint64_t>(config.num_layers) + 1,
                    ProgressUnit::kItems, options.show_progress);
  w.embedding = loader.embedding();
  w.lm_head = loader.lm_head();
  progress.add(1);
  for (int i = 0; i < config.num_layers; ++i) {
    w.layers.push_back(loader.layer(i));
    progress.add(1);
  }
  w.norm = checkpoint.vector("model.norm.weight", config.hidden_size);
  w.bytes = loader.bytes();
  return w;
}

}  // namespace erne
