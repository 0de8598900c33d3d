// Metadata keys of llama.cpp to the keys of config.json.
#include "model/gguf_config.h"

#include <algorithm>
#include <charconv>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "tensor/safetensors.h"

namespace erne {
namespace {

// Metadata below "<architecture>.".
class ArchKeys {
 public:
  ArchKeys(const GgufFile& file, const std::string& architecture)
      : file_(file), prefix_(architecture + ".") {}

  std::string key(const char* name) const { return prefix_ + name; }
  std::optional<int64_t> integer(const char* name) const { return file_.integer(key(name)); }
  std::optional<double> number(const char* name) const { return file_.number(key(name)); }
  std::optional<std::string> text(const char* name) const { return file_.text(key(name)); }
  int64_t required(const char* name) const {
    const auto value = integer(name);
    if (!value) fail(Code::kCorrupt, "{}: key '{}' is missing", file_.what(), key(name));
    return *value;
  }
  template <typename T>
  [[noreturn]] void unsupported(const char* name, const T& value, const char* cause) const {
    fail(Code::kUnsupported, "{}: key '{}' is {}: {}", file_.what(), key(name), value, cause);
  }

 private:
  const GgufFile& file_;
  std::string prefix_;
};

void refuse_scaled_rope(const ArchKeys& keys, int64_t head_dim) {
  if (const auto type = keys.text("rope.scaling.type"); type && *type != "none") {
    keys.unsupported("rope.scaling.type", *type, "scaled RoPE is not supported");
  }
  for (const char* name : {"rope.scaling.factor", "rope.scale_linear"}) {
    const double factor = keys.number(name).value_or(1);
    if (factor != 1 && factor != 0) keys.unsupported(name, factor, "scaled RoPE is not supported");
  }
  const int64_t rotated = keys.integer("rope.dimension_count").value_or(head_dim);
  if (rotated != head_dim) {
    keys.unsupported("rope.dimension_count", rotated,
                     "RoPE over a part of the head is not supported");
  }
}

void refuse_unusual(const ArchKeys& keys, bool moe) {
  for (const char* name :
       {"logit_scale", "embedding_scale", "residual_scale", "expert_weights_scale"}) {
    const double scale = keys.number(name).value_or(1);
    if (scale != 1 && scale != 0) keys.unsupported(name, scale, "only 1 is supported");
  }
  const int64_t experts = keys.integer("expert_count").value_or(0);
  if (!moe && experts > 0)
    keys.unsupported("expert_count", experts, "experts are supported in ernie4_5-moe only");
  constexpr int64_t kSoftmax = 1;
  const int64_t gating = keys.integer("expert_gating_func").value_or(kSoftmax);
  if (gating != kSoftmax)
    keys.unsupported("expert_gating_func", gating, "only 1 (softmax) is supported");
}

// The stored shared_feed_forward_length is unreliable (writers differ), so the width comes from the
// tensor itself.
int64_t num_shared_experts(const GgufFile& file, int64_t expert_width) {
  for (const GgufTensor& tensor : file.tensors()) {
    if (!tensor.name.ends_with(".ffn_up_shexp.weight")) continue;
    const int64_t width = tensor.shape.front();
    if (tensor.shape.size() == 2 && width % expert_width == 0) return width / expert_width;
    fail(Code::kCorrupt, "{}: tensor '{}' [{}] is not a whole number of experts of width {}",
         file.what(), printable_name(tensor.name), fmt::join(tensor.shape, ", "), expert_width);
  }
  return 0;
}

void add_moe(const GgufFile& file, const ArchKeys& keys, OrderedJson& config) {
  const int64_t width = keys.required("expert_feed_forward_length");
  if (width < 1) keys.unsupported("expert_feed_forward_length", width, "at least 1 is valid");
  config["moe_num_experts"] = keys.required("expert_count");
  config["moe_k"] = keys.required("expert_used_count");
  config["moe_intermediate_size"] = width;
  config["moe_num_shared_experts"] = num_shared_experts(file, width);
  config["moe_layer_start_index"] = keys.required("leading_dense_block_count");
  config["moe_layer_end_index"] = keys.required("block_count") - 1;
  config["moe_layer_interval"] = keys.required("interleave_moe_layer_step");
  config["moe_norm_min"] = 1e-12;
}

// float32 metadata as the shortest decimal that gives the same float: 1e-05 rather
// than 9.999999747378752e-06.
double shortest(double value) {
  const std::string text = fmt::format("{}", static_cast<float>(value));
  double result = value;
  std::from_chars(text.data(), text.data() + text.size(), result);
  return result;
}

void set_id(const GgufFile& file, OrderedJson& config, const char* key, const char* gguf_key) {
  if (const auto id = file.integer(gguf_key)) config[key] = *id;
}

}  // namespace

OrderedJson gguf_config(const GgufFile& file, const std::string& name) {
  const std::string architecture = file.text("general.architecture").value_or("");
  const bool moe = architecture == "ernie4_5-moe";
  if (!moe && architecture != "llama" && architecture != "ernie4_5") {
    fail(Code::kUnsupported,
         "{}: architecture '{}' is not supported; llama, ernie4_5 and ernie4_5-moe are",
         file.what(), printable_name(architecture));
  }
  if (const int64_t parts = file.integer("split.count").value_or(1); parts > 1) {
    fail(Code::kUnsupported, "{}: one of {} parts; join them with llama-gguf-split --merge first",
         file.what(), parts);
  }
  const GgufTensor* embedding = file.find("token_embd.weight");
  if (embedding == nullptr || embedding->shape.size() != 2) {
    fail(Code::kCorrupt, "{}: tensor 'token_embd.weight' is missing or not a matrix", file.what());
  }
  const ArchKeys keys(file, architecture);
  const int64_t hidden = keys.required("embedding_length");
  const int64_t heads = keys.required("attention.head_count");
  const int64_t head_dim =
      keys.integer("attention.key_length").value_or(heads > 0 ? hidden / heads : 0);
  const int64_t value_dim = keys.integer("attention.value_length").value_or(head_dim);
  if (value_dim != head_dim)
    keys.unsupported("attention.value_length", value_dim, "it must equal key_length");
  refuse_scaled_rope(keys, head_dim);
  refuse_unusual(keys, moe);

  OrderedJson config;
  config["_name_or_path"] = name.empty() ? file.text("general.name").value_or("") : name;
  config["architectures"] = {moe ? "Ernie4_5_MoeForCausalLM" : "Ernie4_5ForCausalLM"};
  config["model_type"] = moe ? "ernie4_5_moe" : "ernie4_5";
  config["hidden_size"] = hidden;
  config["num_hidden_layers"] = keys.required("block_count");
  config["num_attention_heads"] = heads;
  config["num_key_value_heads"] = keys.integer("attention.head_count_kv").value_or(heads);
  config["head_dim"] = head_dim;
  config["intermediate_size"] = keys.required("feed_forward_length");
  config["vocab_size"] = embedding->shape.front();
  config["max_position_embeddings"] = keys.required("context_length");
  config["rope_theta"] = shortest(keys.number("rope.freq_base").value_or(10000));
  config["rms_norm_eps"] = shortest(keys.number("attention.layer_norm_rms_epsilon").value_or(1e-5));
  config["hidden_act"] = "silu";
  config["use_bias"] = false;
  config["tie_word_embeddings"] = file.find("output.weight") == nullptr;
  config["use_cache"] = true;
  if (moe) add_moe(file, keys, config);
  set_id(file, config, "bos_token_id", "tokenizer.ggml.bos_token_id");
  set_id(file, config, "eos_token_id", "tokenizer.ggml.eos_token_id");
  set_id(file, config, "pad_token_id", "tokenizer.ggml.padding_token_id");
  return config;
}

OrderedJson gguf_generation_config(const GgufFile& file) {
  OrderedJson config = OrderedJson::object();
  set_id(file, config, "bos_token_id", "tokenizer.ggml.bos_token_id");
  std::vector<int64_t> ends;
  for (const char* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"}) {
    const auto id = file.integer(key);
    if (id && std::find(ends.begin(), ends.end(), *id) == ends.end()) ends.push_back(*id);
  }
  if (ends.size() == 1) config["eos_token_id"] = ends.front();
  if (ends.size() > 1) config["eos_token_id"] = ends;
  set_id(file, config, "pad_token_id", "tokenizer.ggml.padding_token_id");
  return config;
}

}  // namespace erne
