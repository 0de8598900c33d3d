#include "model/quantization_config.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/json.h"
#include "model/config_keys.h"

namespace erne {
namespace {

using Method = QuantizationConfig::Method;

constexpr IntRange kBits{1, 64};
constexpr IntRange kGroup{-1, 1 << 20};

void read_bits(const ConfigKeys& keys, const char* key, std::initializer_list<int> supported,
               QuantizationConfig& config) {
  config.bits = static_cast<int>(keys.required(key, kBits));
  if (std::find(supported.begin(), supported.end(), config.bits) != supported.end()) return;
  keys.refuse(Code::kUnsupported, key, *keys.find(key),
              fmt::format("{} are supported", fmt::join(supported, ", ")));
}

void read_group(const ConfigKeys& keys, QuantizationConfig& config) {
  config.group = keys.required("group_size", kGroup);
  if (config.group == -1 || (config.group > 0 && config.group % 32 == 0)) return;
  keys.refuse(Code::kUnsupported, "group_size", *keys.find("group_size"),
              "-1 and multiples of 32 are supported");
}

QuantizationConfig parse_awq(const ConfigKeys& keys) {
  QuantizationConfig config;
  read_bits(keys, "bits", {4}, config);
  read_group(keys, config);
  if (!keys.boolean("zero_point").value_or(true))
    keys.refuse(Code::kUnsupported, "zero_point", *keys.find("zero_point"), "true is supported");
  const std::string version = keys.text("version").value_or("gemm");
  config.method = version == "gemv" ? Method::kAwqGemv : Method::kAwqGemm;
  if (version != "gemv" && version != "gemm") {
    keys.refuse(Code::kUnsupported, "version", *keys.find("version"),
                "gemm and gemv are supported");
  }
  return config;
}

QuantizationConfig parse_gptq(const ConfigKeys& keys) {
  QuantizationConfig config;
  config.method = Method::kGptq;
  read_bits(keys, "bits", {2, 3, 4, 8}, config);
  read_group(keys, config);
  const std::string format = keys.text("checkpoint_format").value_or("gptq");
  config.zero_minus_one = format == "gptq";
  if (format != "gptq" && format != "gptq_v2") {
    keys.refuse(Code::kUnsupported, "checkpoint_format", *keys.find("checkpoint_format"),
                "gptq and gptq_v2 are supported");
  }
  return config;
}

// [128, 128].
void read_block(const ConfigKeys& keys, const char* key, QuantizationConfig& config) {
  const Json* value = keys.find(key);
  if (value == nullptr) return;
  const auto is_size = [](const Json& size) {
    return size.is_number_integer() && size >= 1 && size <= (1 << 20);
  };
  if (!value->is_array() || value->size() != 2 || !is_size((*value)[0]) || !is_size((*value)[1]))
    keys.refuse(Code::kUnsupported, key, *value, "a list such as [128, 128] is supported");
  config.block_rows = (*value)[0];
  config.block_cols = (*value)[1];
}

QuantizationConfig parse_fp8(const ConfigKeys& keys) {
  QuantizationConfig config;
  config.method = Method::kFp8;
  if (keys.text("fmt").value_or("e4m3") != "e4m3")
    keys.refuse(Code::kUnsupported, "fmt", *keys.find("fmt"), "e4m3 is supported");
  read_block(keys, "weight_block_size", config);
  return config;
}

// How the weights of one group lie, given the format that holds for it.
QuantizationConfig parse_weights(const ConfigKeys& weights, const std::string& format) {
  QuantizationConfig config;
  const std::string strategy = weights.text("strategy").value_or("tensor");
  const bool is_float = weights.text("type").value_or("int") == "float";
  if (format == "pack-quantized" && !is_float) {
    config.method = Method::kPacked;
    read_bits(weights, "num_bits", {2, 3, 4, 5, 6, 7, 8}, config);
  } else if (format == "int-quantized" && !is_float) {
    config.method = Method::kInt8;
    read_bits(weights, "num_bits", {8}, config);
  } else if ((format == "float-quantized" || format == "naive-quantized") && is_float) {
    config.method = Method::kFp8;
    read_bits(weights, "num_bits", {8}, config);
  } else {
    fail(Code::kUnsupported,
         "{}: format is {}, weights are of type {}; pack-quantized and int-quantized (type int), "
         "float-quantized and naive-quantized (type float) are supported",
         weights.what(), shown(format), is_float ? "float" : "int");
  }
  if (strategy == "group" && config.method != Method::kFp8) {
    read_group(weights, config);
  } else if (strategy == "block" && config.method == Method::kFp8) {
    read_block(weights, "block_structure", config);
  } else if (strategy != "channel" && strategy != "tensor") {
    weights.refuse(Code::kUnsupported, "strategy", *weights.find("strategy"),
                   "tensor, channel, group (of integers) and block (of floats) are supported");
  }
  return config;
}

// kv_cache_quant_type: static scales stand in tensors of their own (kv_scales.h); without them both
// are dynamic.
std::optional<DType> read_cache_dtype(const ConfigKeys& keys) {
  const auto type = keys.text("kv_cache_quant_type");
  if (!type) return std::nullopt;
  if (*type == "int8") return DType::kI8;
  if (*type == "float8_e4m3fn" || *type == "block_wise_fp8") return DType::kF8E4M3;
  keys.refuse(Code::kUnsupported, "kv_cache_quant_type", *keys.find("kv_cache_quant_type"),
              "int8, float8_e4m3fn and block_wise_fp8 are supported");
}

// {"quantization": "wint8"}, or "mix_quant" with dense_quant_type and moe_quant_type, or a map with
// such keys; further maps (2-bit releases have one for every kind of expert) say what the tensors
// say too.
QuantizationConfig parse_paddle(const ConfigKeys& keys) {
  QuantizationConfig config;
  config.method = Method::kPaddle;
  const std::string method = keys.text("quantization").value_or("mix_quant");
  const bool mixed = method == "mix_quant";
  config.dense_type = keys.text("dense_quant_type").value_or(mixed ? "" : method);
  config.expert_type = keys.text("moe_quant_type").value_or(mixed ? "" : method);
  for (const std::string* type : {&config.dense_type, &config.expert_type}) {
    const auto known = {"wint8",           "wint4",    "wint2", "wint2.5", "block_wise_fp8",
                        "tensor_wise_fp8", "wfp8afp8", "w4a8",  ""};
    if (std::find(known.begin(), known.end(), *type) != known.end()) continue;
    fail(Code::kUnsupported, "{}: method '{}' is not supported; {} are", keys.what(), *type,
         fmt::join(known.begin(), known.end() - 1, ", "));
  }
  config.cache_dtype = read_cache_dtype(keys);
  return config;
}

QuantizationConfig::Group parse_group(const std::string& name, const Json& json,
                                      const std::string& format, std::string_view what) {
  const std::string place = fmt::format("{}: config_groups: {}", what, shown(name));
  if (!json.is_object() || !json.contains("weights") || !json["weights"].is_object())
    fail(Code::kUnsupported, "{} has no weights; groups that have are supported", place);
  const ConfigKeys keys(json, place);
  const Json* targets = keys.find("targets");
  if (targets == nullptr || targets->empty())
    fail(Code::kInvalidArgument,
         "{}: targets is missing; names, patterns or [\"Linear\"] are valid", place);
  return {name, ModulePatterns(*targets, place + ": targets"),
          parse_weights(ConfigKeys(json["weights"], place), keys.text("format").value_or(format))};
}

QuantizationConfig parse_compressed(const ConfigKeys& keys) {
  QuantizationConfig config;
  config.method = Method::kCompressed;
  // Rotated or sparse weights would load and be wrong.
  for (const char* key : {"transform_config", "sparsity_config"}) {
    const Json* value = keys.find(key);
    if (value != nullptr && !value->empty())
      keys.refuse(Code::kUnsupported, key, *value, "only its absence is supported");
  }
  const Json* groups = keys.find("config_groups");
  if (groups == nullptr || !groups->is_object() || groups->empty()) {
    keys.refuse(Code::kUnsupported, "config_groups", groups == nullptr ? Json() : *groups,
                "groups that have weights are supported");
  }
  const std::string format = keys.text("format").value_or("");
  for (const auto& [name, group] : groups->items())
    config.groups.push_back(parse_group(name, group, format, keys.what()));
  if (const Json* ignore = keys.find("ignore"); ignore != nullptr)
    config.ignore = ModulePatterns(*ignore, fmt::format("{}: ignore", keys.what()));
  return config;
}

}  // namespace

const QuantizationConfig* QuantizationConfig::of(const std::string& module) const {
  using Match = ModulePatterns::Match;
  if (method != Method::kCompressed) return this;
  if (ignore.match(module) != Match::kNone) return nullptr;
  Match best = Match::kNone;
  const Group* found = nullptr;
  for (const Group& candidate : groups) {
    const Match match = candidate.targets.match(module);
    if (match != Match::kNone && match == best) {
      fail(Code::kInvalidArgument,
           "quantization_config: '{}' is a target of {} and of {}; one group is valid", module,
           shown(found->name), shown(candidate.name));
    }
    if (match > best) {
      best = match;
      found = &candidate;
    }
  }
  return found == nullptr ? nullptr : &found->config;
}

QuantizationConfig parse_quantization_config(const nlohmann::json& json, std::string_view what) {
  if (json.is_null() || (json.is_object() && json.empty())) return {};
  std::string method = "unnamed";
  for (const char* key :
       {"quant_method", "quantization", "weight_quantize_algo", "dense_quant_type"}) {
    if (!json.is_object() || !json.contains(key)) continue;
    method = json[key].is_string() && std::string_view(key) == "quant_method"
                 ? json[key].get<std::string>()
                 : shown(json[key]);
    break;
  }
  const std::string place = fmt::format("{}: quantization_config", what);
  const ConfigKeys keys(json, place);
  if (method == "erne") {
    QuantizationConfig config;
    config.method = Method::kErne;
    config.cache_dtype = read_cache_dtype(keys);
    return config;
  }
  const bool paddle = json.is_object() && !json.contains("quant_method") &&
                      (json.contains("quantization") || json.contains("dense_quant_type"));
  if (paddle && json.contains("quantization") && json["quantization"].is_object())
    return parse_paddle(ConfigKeys(json["quantization"], place));
  if (paddle) return parse_paddle(keys);
  if (method == "awq") return parse_awq(keys);
  if (method == "gptq") return parse_gptq(keys);
  if (method == "fp8") return parse_fp8(keys);
  if (method == "compressed-tensors") return parse_compressed(keys);
  fail(Code::kUnsupported,
       "{} (method {}) is not supported; erne, awq, gptq, compressed-tensors, fp8, Paddle's and "
       "unquantised folders are",
       place, method);
}

}  // namespace erne
