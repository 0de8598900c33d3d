#include "model/calibration_plan.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/error.h"
#include "model/quantized_rows.h"

namespace erne {
namespace {

constexpr std::array<std::pair<CalibrationMethod, std::string_view>, 3> kNames{
    {{CalibrationMethod::kGptq, "gptq"},
     {CalibrationMethod::kAwq, "awq"},
     {CalibrationMethod::kAwqGptq, "awq+gptq"}}};

std::string layer_prefix(int layer) { return fmt::format("model.layers.{}.", layer); }

}  // namespace

std::string_view calibration_name(CalibrationMethod method) {
  return std::ranges::find(kNames, method, [](const auto& pair) { return pair.first; })->second;
}

CalibrationMethod parse_calibration_method(std::string_view word) {
  for (const auto& [method, name] : kNames) {
    if (name == word) return method;
  }
  fail(Code::kInvalidArgument,
       "there is no calibration method '{}'; gptq, awq and awq+gptq are valid", word);
}

CalibrationPlan::CalibrationPlan(const TextConfig& config, const QuantizationPlan& plan,
                                 CalibrationMethod method)
    : config_(config), plan_(plan), method_(method) {
  for (int layer = 0; layer < config.num_layers; ++layer) {
    for (const char* name : {"q_proj", "o_proj"}) {
      if (rounding(fmt::format("{}self_attn.{}.weight", layer_prefix(layer), name))) return;
    }
    for (const MlpPlace& mlp : mlps(layer)) {
      if (rounding(mlp.prefix + "down_proj.weight")) return;
    }
  }
  fail(Code::kInvalidArgument,
       "calibration chooses codes of wint8 and wint4, and '{}' gives them to no layer",
       plan.text());
}

std::optional<WeightScheme> CalibrationPlan::scheme(const std::string& name) const {
  return plan_.scheme(name, config_.is_moe());
}

std::optional<Rounding> CalibrationPlan::rounding(const std::string& name) const {
  const std::optional<WeightScheme> found = scheme(name);
  return found ? integer_rounding(*found) : std::nullopt;
}

std::vector<MlpPlace> CalibrationPlan::mlps(int layer) const {
  const std::string prefix = layer_prefix(layer) + "mlp.";
  if (!config_.is_moe_layer(layer)) return {{prefix, config_.intermediate_size, config_.use_bias}};
  std::vector<MlpPlace> places;
  for (int e = 0; e < config_.num_experts; ++e)
    places.push_back(
        {fmt::format("{}experts.{}.", prefix, e), config_.moe_intermediate_size, false});
  if (config_.num_shared_experts > 0) {
    places.push_back({prefix + "shared_experts.",
                      config_.num_shared_experts * config_.moe_intermediate_size,
                      config_.use_bias});
  }
  return places;
}

bool CalibrationPlan::all_integers(const std::string& prefix,
                                   std::initializer_list<const char*> names) const {
  return std::ranges::all_of(names, [&](const char* name) {
    return rounding(fmt::format("{}{}.weight", prefix, name)).has_value();
  });
}

bool CalibrationPlan::folds_input_norm(int layer) const {
  return awq() && all_integers(layer_prefix(layer) + "self_attn.", {"q_proj", "k_proj", "v_proj"});
}

bool CalibrationPlan::folds_post_norm(int layer) const {
  return awq() && std::ranges::all_of(mlps(layer), [&](const MlpPlace& mlp) {
           return all_integers(mlp.prefix, {"gate_proj", "up_proj"});
         });
}

bool CalibrationPlan::folds_v(int layer) const {
  return awq() && config_.num_heads == config_.kv_heads &&
         all_integers(layer_prefix(layer) + "self_attn.", {"v_proj", "o_proj"});
}

bool CalibrationPlan::folds_up(const MlpPlace& mlp) const {
  return awq() && all_integers(mlp.prefix, {"up_proj", "down_proj"});
}

std::unordered_set<std::string> CalibrationPlan::rewritten() const {
  std::unordered_set<std::string> names;
  for (int layer = 0; layer < config_.num_layers; ++layer) {
    const std::string prefix = layer_prefix(layer);
    if (folds_input_norm(layer)) names.insert(prefix + "input_layernorm.weight");
    if (folds_v(layer) && config_.use_bias) names.insert(prefix + "self_attn.v_proj.bias");
    if (folds_post_norm(layer)) {
      names.insert(prefix + "post_attention_layernorm.weight");
      if (config_.is_moe_layer(layer)) names.insert(prefix + "mlp.gate.weight");
    }
    for (const MlpPlace& mlp : mlps(layer)) {
      if (mlp.has_bias && folds_up(mlp)) names.insert(mlp.prefix + "up_proj.bias");
    }
  }
  return names;
}

}  // namespace erne
