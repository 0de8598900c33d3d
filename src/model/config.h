// config.json of an ERNIE 4.5 text model, every accepted spelling (spec text.md 1.2), validated.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/quantization_config.h"
#include "tensor/dtype.h"

namespace erne {

struct TextConfig {
  std::string
      architecture;  ///< as written, e.g. "Ernie4_5ForCausalLM"; empty when the file has none
  std::string name;  ///< "_name_or_path": what to call the model where a name shows; may be empty
  std::string model_type;
  int num_layers = 0;
  int64_t hidden_size = 0;
  int num_heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int64_t intermediate_size = 0;
  int64_t vocab_size = 0;
  int64_t max_position_embeddings = 0;
  double rope_theta = 500000;
  float rms_norm_eps = 1e-5F;
  bool use_bias = false;
  bool tie_word_embeddings = true;
  DType dtype = DType::kBF16;  ///< torch_dtype or dtype
  int num_nextn_predict_layers = 0;
  std::string quant_method;  ///< quantization_config.quant_method; empty: not quantised
  QuantizationConfig quantization;

  // MoE; num_experts 0 means dense.
  int num_experts = 0;
  int moe_top_k = 0;
  int64_t moe_intermediate_size = 0;
  int num_shared_experts = 0;
  int moe_layer_start = 0;
  int moe_layer_end = 0;  ///< inclusive
  int moe_layer_interval = 1;
  float moe_norm_min = 1e-12F;

  bool is_moe() const { return num_experts > 0; }
  /// Layer is MoE iff there are experts, (layer + 1) % interval == 0 and start <= layer <= end.
  bool is_moe_layer(int layer) const;
  int64_t q_size() const { return int64_t{num_heads} * head_dim; }
  int64_t kv_size() const { return int64_t{kv_heads} * head_dim; }
  /// Parameters, total and used per token (without MTP).
  int64_t num_parameters() const;
  int64_t num_active_parameters() const;

  /// Throws Error{kInvalidArgument} naming the key, its value and what is accepted;
  /// Error{kUnsupported} for scaled RoPE, compression_ratio other than 1, vision and unknown
  /// architectures.
  static TextConfig parse(std::string_view json_text, std::string_view what);
  static TextConfig load(const std::filesystem::path& folder);
};

/// generation_config.json: defaults for sampling and the ids that end a text. Absent file or key:
/// the empty value.
struct GenerationConfig {
  std::optional<double> temperature, top_p, min_p, repetition_penalty, frequency_penalty,
      presence_penalty;
  std::optional<int> top_k;
  std::optional<bool> do_sample;
  std::vector<int32_t> eos_ids;
  std::optional<int32_t> bos_id, pad_id;

  static GenerationConfig parse(std::string_view json_text, std::string_view what);
  /// Ids that generation_config.json does not give are taken from config.json, as transformers
  /// does.
  static GenerationConfig load(const std::filesystem::path& folder);
};

}  // namespace erne
