// config.json: which keys mean what, which values are refused (spec text.md 1.2), and
// the parameter count.
#include "model/config.h"

#include <algorithm>
#include <array>
#include <initializer_list>

#include "base/error.h"
#include "base/file.h"
#include "model/config_keys.h"

namespace erne {
namespace {

// Bounds far above any real model and low enough that the parameter count stays below 2^63.
constexpr int64_t kMaxWidth = int64_t{1} << 18;
constexpr int64_t kMaxVocab = int64_t{1} << 22;
constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kMaxExperts = 4096;
constexpr int64_t kMaxExpertsOfModel = int64_t{1} << 18;  // each has names and views in memory
constexpr int64_t kMaxPositions = int64_t{1} << 30;

bool one_of(std::string_view word, std::initializer_list<std::string_view> words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

// Refuses what this model is not: another family, vision, quantised weights, scaled RoPE, unusual
// arithmetic.
void refuse_vision(const ConfigKeys& keys, const TextConfig& config) {
  constexpr std::array<const char*, 4> kVisionKeys{"vision_config", "text_config", "im_patch_id",
                                                   "image_token_id"};
  for (const char* key : kVisionKeys) {
    if (keys.find(key) == nullptr) continue;
    fail(Code::kUnsupported,
         "{}: {} marks a vision-language model; only text models are supported yet", keys.what(),
         key);
  }
  const bool vision_name = config.architecture.find("VL") != std::string::npos ||
                           config.architecture.find("ConditionalGeneration") != std::string::npos ||
                           config.model_type.find("vl") != std::string::npos;
  if (vision_name) {
    fail(Code::kUnsupported,
         "{}: {} ({}) is a vision-language model; only text models are supported yet", keys.what(),
         config.architecture, config.model_type);
  }
}

void read_family(const ConfigKeys& keys, TextConfig& config) {
  if (const Json* names = keys.find("architectures")) {
    if (!names->is_array() || names->size() != 1 || !names->front().is_string()) {
      keys.refuse(Code::kInvalidArgument, "architectures", *names, "a list of one name is valid");
    }
    config.architecture = names->front().get<std::string>();
  }
  config.model_type = keys.text("model_type").value_or("");
  refuse_vision(keys, config);
  const bool known_class =
      config.architecture.empty() ||
      one_of(config.architecture, {"Ernie4_5_ForCausalLM", "Ernie4_5ForCausalLM",
                                   "Ernie4_5_MoeForCausalLM", "ErnieForCausalLM"});
  const bool known_type =
      config.model_type.empty() || one_of(config.model_type, {"ernie4_5", "ernie4_5_moe", "ernie"});
  if (!known_class || !known_type || (config.architecture.empty() && config.model_type.empty())) {
    fail(Code::kUnsupported,
         "{}: architecture '{}' with model_type '{}' is not supported; Ernie4_5ForCausalLM "
         "(ernie4_5) and "
         "Ernie4_5_MoeForCausalLM (ernie4_5_moe) are",
         keys.what(), config.architecture, config.model_type);
  }
}

void read_quantization(const ConfigKeys& keys, TextConfig& config) {
  const Json* quantization = keys.find("quantization_config");
  if (quantization == nullptr) return;
  config.quantization = parse_quantization_config(*quantization, keys.what());
  if (config.quantization.method != QuantizationConfig::Method::kNone)
    config.quant_method = quantization->value("quant_method", "paddle");
}

void refuse_unusual(const ConfigKeys& keys) {
  if (const auto act = keys.text("hidden_act"); act && !one_of(*act, {"silu", "swish"})) {
    fail(Code::kUnsupported, "{}: hidden_act '{}' is not supported; silu is", keys.what(), *act);
  }
  if (const auto act = keys.text("moe_gate_act"); act && *act != "softmax") {
    fail(Code::kUnsupported, "{}: moe_gate_act '{}' is not supported; softmax is", keys.what(),
         *act);
  }
  for (const char* key : {"compression_ratio", "scale_qk_coeff"}) {
    const Json* value = keys.find(key);
    if (value == nullptr || (value->is_number() && value->get<double>() == 1.0)) continue;
    keys.refuse(Code::kUnsupported, key, *value, "only 1 is supported");
  }
  if (keys.boolean("moe_group_experts").value_or(false)) {
    fail(Code::kUnsupported, "{}: moe_group_experts true is not supported; false is", keys.what());
  }
  if (!keys.boolean("moe_norm_gate_logits").value_or(true)) {
    fail(Code::kUnsupported, "{}: moe_norm_gate_logits false is not supported; true is",
         keys.what());
  }
  if (!keys.boolean("use_rmsnorm").value_or(true)) {
    fail(Code::kUnsupported, "{}: use_rmsnorm false is not supported; true is", keys.what());
  }
}

// "rope_theta" on top, or inside "rope_parameters" / "rope_scaling" of type "default".
void read_rope(const ConfigKeys& keys, TextConfig& config) {
  constexpr double kMaxTheta = 1e12;
  std::optional<double> theta = keys.number("rope_theta", 1, kMaxTheta);
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    const Json* value = keys.find(key);
    if (value == nullptr) continue;
    if (!value->is_object())
      keys.refuse(Code::kInvalidArgument, key, *value, "an object or null is valid");
    const ConfigKeys inner(*value, keys.what());
    for (const char* type_key : {"rope_type", "type"}) {
      const auto type = inner.text(type_key);
      if (type && *type != "default") {
        fail(Code::kUnsupported, "{}: {}.{} '{}': scaled RoPE is not supported, only 'default'",
             keys.what(), key, type_key, *type);
      }
    }
    const double rotated = inner.number("partial_rotary_factor", 0, 1).value_or(1);
    if (rotated != 1) {
      fail(Code::kUnsupported, "{}: {}.partial_rotary_factor {} is not supported, only 1",
           keys.what(), key, rotated);
    }
    if (const auto inner_theta = inner.number("rope_theta", 1, kMaxTheta)) theta = inner_theta;
  }
  config.rope_theta = theta.value_or(500000);
}

DType read_dtype(const ConfigKeys& keys) {
  for (const char* key : {"dtype", "torch_dtype"}) {
    auto word = keys.text(key);
    if (!word) continue;
    if (word->starts_with("torch.")) word->erase(0, 6);
    if (*word == "bfloat16") return DType::kBF16;
    if (*word == "float16" || *word == "half") return DType::kF16;
    if (*word == "float32" || *word == "float") return DType::kF32;
    fail(Code::kInvalidArgument, "{}: {} is '{}'; bfloat16, float16 and float32 are valid",
         keys.what(), key, *word);
  }
  return DType::kBF16;
}

void read_sizes(const ConfigKeys& keys, TextConfig& config) {
  config.num_layers = static_cast<int>(keys.required("num_hidden_layers", {1, kMaxLayers}));
  config.hidden_size = keys.required("hidden_size", {1, kMaxWidth});
  config.num_heads = static_cast<int>(keys.required("num_attention_heads", {1, kMaxWidth}));
  config.kv_heads = static_cast<int>(
      keys.integer("num_key_value_heads", {1, kMaxWidth}).value_or(config.num_heads));
  if (config.num_heads % config.kv_heads != 0) {
    fail(Code::kInvalidArgument,
         "{}: num_key_value_heads {} does not divide num_attention_heads {}", keys.what(),
         config.kv_heads, config.num_heads);
  }
  if (const auto head_dim = keys.integer("head_dim", {2, 4096})) {
    config.head_dim = static_cast<int>(*head_dim);
  } else if (config.hidden_size % config.num_heads == 0) {
    config.head_dim = static_cast<int>(config.hidden_size / config.num_heads);
  } else {
    fail(Code::kInvalidArgument,
         "{}: head_dim is missing and num_attention_heads {} does not divide hidden_size {}",
         keys.what(), config.num_heads, config.hidden_size);
  }
  if (config.head_dim % 2 != 0 || config.head_dim > 4096) {
    fail(Code::kInvalidArgument, "{}: head_dim is {}; RoPE needs an even one of at most 4096",
         keys.what(), config.head_dim);
  }
  if (config.q_size() > kMaxWidth) {
    fail(Code::kInvalidArgument, "{}: num_attention_heads {} x head_dim {} is above {}",
         keys.what(), config.num_heads, config.head_dim, kMaxWidth);
  }
  config.intermediate_size = keys.required("intermediate_size", {1, kMaxWidth});
  config.vocab_size = keys.required("vocab_size", {1, kMaxVocab});
  config.max_position_embeddings =
      keys.integer("max_position_embeddings", {1, kMaxPositions}).value_or(131072);
}

void read_moe(const ConfigKeys& keys, TextConfig& config) {
  config.num_experts =
      static_cast<int>(keys.first_integer("moe_num_experts", {0, kMaxExperts}).value_or(0));
  if (config.num_experts == 0) {
    if (config.architecture == "Ernie4_5_MoeForCausalLM" || config.model_type == "ernie4_5_moe") {
      fail(Code::kInvalidArgument,
           "{}: a mixture-of-experts model whose moe_num_experts is missing or 0", keys.what());
    }
    return;
  }
  if (int64_t{config.num_layers} * config.num_experts > kMaxExpertsOfModel) {
    fail(Code::kInvalidArgument, "{}: num_hidden_layers {} x moe_num_experts {} is above {}",
         keys.what(), config.num_layers, config.num_experts, kMaxExpertsOfModel);
  }
  const auto needed = [&](const char* key, IntRange range) {
    const auto value = keys.first_integer(key, range);
    if (!value)
      fail(Code::kInvalidArgument, "{}: {} is missing (moe_num_experts is {})", keys.what(), key,
           config.num_experts);
    return *value;
  };
  config.moe_top_k = static_cast<int>(needed("moe_k", {1, config.num_experts}));
  config.moe_intermediate_size = needed("moe_intermediate_size", {1, kMaxWidth});
  config.num_shared_experts =
      static_cast<int>(keys.first_integer("moe_num_shared_experts", {0, 1024}).value_or(0));
  if (config.num_shared_experts * config.moe_intermediate_size > kMaxWidth) {
    fail(Code::kInvalidArgument,
         "{}: moe_num_shared_experts {} x moe_intermediate_size {} is above {}", keys.what(),
         config.num_shared_experts, config.moe_intermediate_size, kMaxWidth);
  }
  config.moe_layer_start =
      static_cast<int>(keys.first_integer("moe_layer_start_index", {0, kMaxLayers}).value_or(1));
  const int64_t end = keys.first_integer("moe_layer_end_index", {-1, kMaxLayers}).value_or(-1);
  config.moe_layer_end = end < 0 ? config.num_layers - 1
                                 : static_cast<int>(std::min<int64_t>(end, config.num_layers - 1));
  config.moe_layer_interval =
      static_cast<int>(keys.integer("moe_layer_interval", {1, kMaxLayers}).value_or(1));
  config.moe_norm_min = static_cast<float>(keys.number("moe_norm_min", 0, 1).value_or(1e-12));
}

// Parameters with `experts` routed experts counted in each MoE layer.
int64_t count_parameters(const TextConfig& c, int experts) {
  const int64_t h = c.hidden_size;
  const int64_t bias = c.use_bias ? 1 : 0;
  const int64_t attention =
      h * (2 * c.q_size() + 2 * c.kv_size()) + bias * (c.q_size() + 2 * c.kv_size() + h);
  const auto mlp = [h](int64_t width, int64_t with_bias) {
    return 3 * h * width + with_bias * (2 * width + h);
  };
  const int64_t shared_width = c.num_shared_experts * c.moe_intermediate_size;
  int64_t total = c.vocab_size * h + h;
  if (!c.tie_word_embeddings) total += c.vocab_size * h;
  if (c.is_moe()) total += bias * c.vocab_size;  // only the MoE class has lm_head.bias
  for (int layer = 0; layer < c.num_layers; ++layer) {
    total += attention + 2 * h;
    if (!c.is_moe_layer(layer)) {
      total += mlp(c.intermediate_size, bias);
      continue;
    }
    total += c.num_experts * (h + 1) + experts * mlp(c.moe_intermediate_size, 0);
    if (shared_width > 0) total += mlp(shared_width, bias);
  }
  return total;
}

}  // namespace

bool TextConfig::is_moe_layer(int layer) const {
  return num_experts > 0 && (layer + 1) % moe_layer_interval == 0 && layer >= moe_layer_start &&
         layer <= moe_layer_end;
}

int64_t TextConfig::num_parameters() const { return count_parameters(*this, num_experts); }

int64_t TextConfig::num_active_parameters() const { return count_parameters(*this, moe_top_k); }

TextConfig TextConfig::parse(std::string_view json_text, std::string_view what) {
  const Json object = parse_config_object(json_text, what);
  const ConfigKeys keys(object, what);
  TextConfig config;
  read_family(keys, config);
  read_quantization(keys, config);
  refuse_unusual(keys);
  config.name = keys.text("_name_or_path").value_or("");
  read_sizes(keys, config);
  read_rope(keys, config);
  config.rms_norm_eps = static_cast<float>(keys.number("rms_norm_eps", 0, 1).value_or(1e-5));
  config.use_bias = keys.boolean("use_bias").value_or(false);
  config.tie_word_embeddings = keys.boolean("tie_word_embeddings").value_or(true);
  config.dtype = read_dtype(keys);
  config.num_nextn_predict_layers =
      static_cast<int>(keys.integer("num_nextn_predict_layers", {0, 64}).value_or(0));
  read_moe(keys, config);
  return config;
}

TextConfig TextConfig::load(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "config.json";
  return parse(read_file(path, kMaxConfigBytes), path.string());
}

}  // namespace erne
