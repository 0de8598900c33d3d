#include "model/config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <initializer_list>
#include <limits>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"

namespace erne {
namespace {

constexpr size_t kMaxConfigBytes = size_t{4} << 20;

// Bounds far above any real model and low enough that no product of three of them overflows 63
// bits.
constexpr int64_t kMaxWidth = int64_t{1} << 18;
constexpr int64_t kMaxVocab = int64_t{1} << 22;
constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kMaxExperts = 4096;
constexpr int64_t kMaxPositions = int64_t{1} << 30;

struct IntRange {
  int64_t least;
  int64_t most;
};

// A value as a message shows it.
std::string shown(const Json& value) {
  std::string text = dump_json(value);
  if (text.size() > 80) text = text.substr(0, 80) + "...";
  return text;
}

// Typed reading of one JSON object; null counts as absent, as transformers writes it.
class Keys {
 public:
  Keys(const Json& object, std::string_view what) : object_(object), what_(what) {}

  const Json* find(const char* key) const {
    const auto it = object_.find(key);
    return it == object_.end() || it->is_null() ? nullptr : &*it;
  }

  [[noreturn]] void refuse(Code code, const char* key, const Json& value,
                           std::string_view accepted) const {
    fail(code, "{}: {} is {}; {}", what_, key, shown(value), accepted);
  }

  std::optional<int64_t> integer(const char* key, IntRange range) const {
    const Json* value = find(key);
    return value == nullptr ? std::nullopt : std::optional(checked_integer(key, *value, range));
  }

  int64_t required(const char* key, IntRange range) const {
    const std::optional<int64_t> value = integer(key, range);
    if (!value) fail(Code::kInvalidArgument, "{}: {} is missing", what_, key);
    return *value;
  }

  // MoE sizes of vision checkpoints are lists (text, vision): the first element is the text
  // model's.
  std::optional<int64_t> first_integer(const char* key, IntRange range) const {
    const Json* value = find(key);
    if (value != nullptr && value->is_array() && !value->empty()) value = &value->front();
    if (value == nullptr || value->is_null()) return std::nullopt;
    return checked_integer(key, *value, range);
  }

  std::optional<double> number(const char* key, double least, double most) const {
    const Json* value = find(key);
    if (value == nullptr) return std::nullopt;
    const double x =
        value->is_number() ? value->get<double>() : std::numeric_limits<double>::quiet_NaN();
    if (!(x >= least && x <= most)) {
      refuse(Code::kInvalidArgument, key, *value,
             fmt::format("a number from {} to {} is valid", least, most));
    }
    return x;
  }

  std::optional<bool> boolean(const char* key) const {
    const Json* value = find(key);
    if (value == nullptr) return std::nullopt;
    if (!value->is_boolean()) refuse(Code::kInvalidArgument, key, *value, "true or false is valid");
    return value->get<bool>();
  }

  std::optional<std::string> text(const char* key) const {
    const Json* value = find(key);
    if (value == nullptr) return std::nullopt;
    if (!value->is_string()) refuse(Code::kInvalidArgument, key, *value, "a string is valid");
    return value->get<std::string>();
  }

  std::string_view what() const { return what_; }

 private:
  int64_t checked_integer(const char* key, const Json& value, IntRange range) const {
    const bool fits = value.is_number_integer() &&
                      (!value.is_number_unsigned() ||
                       value.get<uint64_t>() <= uint64_t{std::numeric_limits<int64_t>::max()});
    if (!fits || value.get<int64_t>() < range.least || value.get<int64_t>() > range.most) {
      refuse(Code::kInvalidArgument, key, value,
             fmt::format("an integer from {} to {} is valid", range.least, range.most));
    }
    return value.get<int64_t>();
  }

  const Json& object_;
  std::string_view what_;
};

bool one_of(std::string_view word, std::initializer_list<std::string_view> words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

Json parse_object(std::string_view json_text, std::string_view what) {
  Json object = parse_json(json_text, what);
  if (!object.is_object()) fail(Code::kInvalidArgument, "{}: not a JSON object", what);
  return object;
}

// Refuses what this model is not: another family, vision, quantised weights, scaled RoPE, unusual
// arithmetic.
void refuse_vision(const Keys& keys, const TextConfig& config) {
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

void read_family(const Keys& keys, TextConfig& config) {
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

void refuse_quantised(const Keys& keys) {
  const Json* quantization = keys.find("quantization_config");
  if (quantization == nullptr || (quantization->is_object() && quantization->empty())) return;
  std::string method = "unnamed";
  for (const char* key :
       {"quant_method", "quantization", "weight_quantize_algo", "dense_quant_type"}) {
    if (!quantization->is_object() || !quantization->contains(key)) continue;
    method = shown((*quantization)[key]);
    break;
  }
  fail(Code::kUnsupported,
       "{}: quantization_config (method {}): quantised checkpoints are not supported yet; use the "
       "bf16 one",
       keys.what(), method);
}

void refuse_unusual(const Keys& keys) {
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
void read_rope(const Keys& keys, TextConfig& config) {
  constexpr double kMaxTheta = 1e12;
  std::optional<double> theta = keys.number("rope_theta", 1, kMaxTheta);
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    const Json* value = keys.find(key);
    if (value == nullptr) continue;
    if (!value->is_object())
      keys.refuse(Code::kInvalidArgument, key, *value, "an object or null is valid");
    const Keys inner(*value, keys.what());
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

DType read_dtype(const Keys& keys) {
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

void read_sizes(const Keys& keys, TextConfig& config) {
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

void read_moe(const Keys& keys, TextConfig& config) {
  config.num_experts =
      static_cast<int>(keys.first_integer("moe_num_experts", {0, kMaxExperts}).value_or(0));
  if (config.num_experts == 0) {
    if (config.architecture == "Ernie4_5_MoeForCausalLM" || config.model_type == "ernie4_5_moe") {
      fail(Code::kInvalidArgument,
           "{}: a mixture-of-experts model whose moe_num_experts is missing or 0", keys.what());
    }
    return;
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

std::vector<int32_t> read_ids(const Keys& keys, const char* key) {
  const Json* value = keys.find(key);
  if (value == nullptr) return {};
  const auto id = [&](const Json& item) {
    if (!item.is_number_integer() || item < 0 || item > std::numeric_limits<int32_t>::max()) {
      keys.refuse(Code::kInvalidArgument, key, *value, "a token id or a list of them is valid");
    }
    return item.get<int32_t>();
  };
  if (!value->is_array()) return {id(*value)};
  std::vector<int32_t> ids;
  for (const Json& item : *value) ids.push_back(id(item));
  return ids;
}

std::optional<int32_t> read_id(const Keys& keys, const char* key) {
  const std::vector<int32_t> ids = read_ids(keys, key);
  return ids.empty() ? std::nullopt : std::optional(ids.front());
}

}  // namespace

bool TextConfig::is_moe_layer(int layer) const {
  return num_experts > 0 && (layer + 1) % moe_layer_interval == 0 && layer >= moe_layer_start &&
         layer <= moe_layer_end;
}

namespace {

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

int64_t TextConfig::num_parameters() const { return count_parameters(*this, num_experts); }

int64_t TextConfig::num_active_parameters() const { return count_parameters(*this, moe_top_k); }

TextConfig TextConfig::parse(std::string_view json_text, std::string_view what) {
  const Json object = parse_object(json_text, what);
  const Keys keys(object, what);
  TextConfig config;
  read_family(keys, config);
  refuse_quantised(keys);
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

GenerationConfig GenerationConfig::parse(std::string_view json_text, std::string_view what) {
  const Json object = parse_object(json_text, what);
  const Keys keys(object, what);
  constexpr double kMost = 1e6;
  GenerationConfig config;
  config.temperature = keys.number("temperature", 0, kMost);
  config.top_p = keys.number("top_p", 0, 1);
  config.min_p = keys.number("min_p", 0, 1);
  config.repetition_penalty = keys.number("repetition_penalty", 0, kMost);
  config.frequency_penalty = keys.number("frequency_penalty", -kMost, kMost);
  config.presence_penalty = keys.number("presence_penalty", -kMost, kMost);
  if (const auto top_k = keys.integer("top_k", {-1, std::numeric_limits<int32_t>::max()})) {
    config.top_k = static_cast<int>(*top_k);
  }
  config.do_sample = keys.boolean("do_sample");
  config.eos_ids = read_ids(keys, "eos_token_id");
  config.bos_id = read_id(keys, "bos_token_id");
  config.pad_id = read_id(keys, "pad_token_id");
  return config;
}

GenerationConfig GenerationConfig::load(const std::filesystem::path& folder) {
  GenerationConfig config;
  const std::filesystem::path path = folder / "generation_config.json";
  if (std::filesystem::exists(path))
    config = parse(read_file(path, kMaxConfigBytes), path.string());
  const std::filesystem::path model_path = folder / "config.json";
  if (!std::filesystem::exists(model_path)) return config;
  const Json object = parse_object(read_file(model_path, kMaxConfigBytes), model_path.string());
  const std::string what = model_path.string();
  const Keys keys(object, what);
  if (config.eos_ids.empty()) config.eos_ids = read_ids(keys, "eos_token_id");
  if (!config.bos_id) config.bos_id = read_id(keys, "bos_token_id");
  if (!config.pad_id) config.pad_id = read_id(keys, "pad_token_id");
  return config;
}

}  // namespace erne
