#include "model/quantization.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>

#include "base/error.h"

namespace erne {
namespace {

using Method = WeightScheme::Method;

struct MethodName {
  Method method;
  std::string_view name;
};
constexpr std::array<MethodName, 9> kMethods{{{Method::kInt8, "wint8"},
                                              {Method::kInt4, "wint4"},
                                              {Method::kFp8Block, "fp8_block"},
                                              {Method::kFp8Channel, "fp8_channel"},
                                              {Method::kFp8Tensor, "fp8_tensor"},
                                              {Method::kW8a8, "w8a8"},
                                              {Method::kW4a8, "w4a8"},
                                              {Method::kCcq25, "wint2.5"},
                                              {Method::kCcq2, "wint2"}}};
constexpr int32_t kW4a8Rotation = 128;
constexpr std::string_view kSchemeHelp =
    "none, wint8, w8a8, wint4 (all three also with :g32, :g64 or :g128 for groups, :min for a "
    "minimum a group, :mse for scales of the least error), fp8_block, fp8_channel, fp8_tensor, "
    "w4a8 (both also with :r1, :r2, :r4 … :r1024 for the blocks in which inputs are rotated), "
    "wint2.5, wint2";

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> words;
  while (true) {
    const size_t at = text.find(separator);
    words.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return words;
    text.remove_prefix(at + 1);
  }
}

[[noreturn]] void refuse_scheme(std::string_view word) {
  fail(Code::kInvalidArgument, "there is no quantisation scheme '{}'; valid are {}", word,
       kSchemeHelp);
}

int32_t default_rotation(Method method) { return method == Method::kW4a8 ? kW4a8Rotation : 1; }

// ":r128"
int32_t rotation_of(std::string_view part, std::string_view word) {
  for (int32_t block = 1; block <= 1024; block *= 2) {
    if (part == fmt::format("r{}", block)) return block;
  }
  refuse_scheme(word);
}

int layer_number(std::string_view text, std::string_view word) {
  int layer = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), layer);
  if (error == std::errc{} && end == text.data() + text.size() && layer >= 0) return layer;
  fail(Code::kInvalidArgument, "'{}' in '{}' is not a layer; ROLE@A-B, ROLE@A- or ROLE@A is valid",
       text, word);
}

}  // namespace

std::string WeightScheme::name() const {
  const auto found = std::find_if(kMethods.begin(), kMethods.end(),
                                  [&](const MethodName& m) { return m.method == method; });
  std::string text(found->name);
  if (group != 0) text += fmt::format(":g{}", group);
  if (has_min) text += ":min";
  if (search) text += ":mse";
  if (rotation != default_rotation(method)) text += fmt::format(":r{}", rotation);
  return text;
}

std::optional<WeightScheme> parse_scheme(std::string_view word) {
  if (word == "none" || word == "bf16" || word == "bfloat16") return std::nullopt;
  const std::vector<std::string_view> parts = split(word, ':');
  const auto found = std::find_if(kMethods.begin(), kMethods.end(),
                                  [&](const MethodName& m) { return m.name == parts.front(); });
  if (found == kMethods.end()) refuse_scheme(word);
  WeightScheme scheme;
  scheme.method = found->method;
  scheme.rotation = default_rotation(scheme.method);
  const bool integers = scheme.method == Method::kInt8 || scheme.method == Method::kInt4 ||
                        scheme.method == Method::kW8a8;
  const bool rotates = scheme.method == Method::kW4a8 || scheme.method == Method::kFp8Tensor;
  for (size_t i = 1; i < parts.size(); ++i) {
    if (rotates) {
      scheme.rotation = rotation_of(parts[i], word);
    } else if (!integers) {
      refuse_scheme(word);
    } else if (parts[i] == "g32" || parts[i] == "g64" || parts[i] == "g128") {
      scheme.group = parts[i] == "g32" ? 32 : parts[i] == "g64" ? 64 : 128;
    } else if (parts[i] == "min") {
      scheme.has_min = true;
    } else if (parts[i] == "mse") {
      scheme.search = true;
    } else {
      refuse_scheme(word);
    }
  }
  return scheme;
}

std::vector<QuantizationPlan::Role> QuantizationPlan::parse_roles(std::string_view word) {
  if (word == "attention") return {Role::kAttention};
  if (word == "mlp") return {Role::kMlp};
  if (word == "dense") return {Role::kAttention, Role::kMlp, Role::kSharedExperts};
  if (word == "shared_experts") return {Role::kSharedExperts};
  if (word == "experts") return {Role::kExperts};
  if (word == "lm_head") return {Role::kLmHead};
  fail(Code::kInvalidArgument,
       "'{}' names no linears; attention, mlp, dense, shared_experts, experts and lm_head do",
       word);
}

std::optional<QuantizationPlan::Place> QuantizationPlan::find(std::string_view pt_name) {
  if (pt_name == "lm_head.weight") return Place{Role::kLmHead, 0};
  constexpr std::string_view kLayers = "model.layers.";
  if (!pt_name.starts_with(kLayers) || !pt_name.ends_with("_proj.weight")) return std::nullopt;
  pt_name.remove_prefix(kLayers.size());
  int layer = 0;
  const auto [end, error] = std::from_chars(pt_name.data(), pt_name.data() + pt_name.size(), layer);
  if (error != std::errc{}) return std::nullopt;
  pt_name.remove_prefix(static_cast<size_t>(end - pt_name.data()));
  if (pt_name.starts_with(".self_attn.")) return Place{Role::kAttention, layer};
  if (pt_name.starts_with(".mlp.experts.")) return Place{Role::kExperts, layer};
  if (pt_name.starts_with(".mlp.shared_experts.")) return Place{Role::kSharedExperts, layer};
  if (pt_name.starts_with(".mlp.")) return Place{Role::kMlp, layer};
  return std::nullopt;
}

QuantizationPlan::Exception QuantizationPlan::parse_exception(std::string_view word) {
  const size_t equals = word.find('=');
  if (equals == std::string_view::npos) {
    fail(Code::kInvalidArgument, "'{}' is no exception; ROLE=SCHEME or ROLE@A-B=SCHEME is valid",
         word);
  }
  std::string_view role = word.substr(0, equals);
  Exception exception{
      {}, 0, std::numeric_limits<int>::max(), parse_scheme(word.substr(equals + 1))};
  if (const size_t at = role.find('@'); at != std::string_view::npos) {
    const std::string_view layers = role.substr(at + 1);
    role = role.substr(0, at);
    const size_t dash = layers.find('-');
    exception.first_layer = layer_number(layers.substr(0, dash), word);
    if (dash == std::string_view::npos) {
      exception.last_layer = exception.first_layer;
    } else if (dash + 1 < layers.size()) {
      exception.last_layer = layer_number(layers.substr(dash + 1), word);
    }
    if (exception.last_layer < exception.first_layer) {
      fail(Code::kInvalidArgument, "'{}': the last layer lies before the first", word);
    }
  }
  exception.roles = parse_roles(role);
  return exception;
}

QuantizationPlan QuantizationPlan::parse(std::string_view base, std::string_view mixed) {
  QuantizationPlan plan;
  plan.base_ = parse_scheme(base);
  if (plan.base_) plan.text_ = plan.base_->name();
  if (mixed.empty()) return plan;
  for (const std::string_view word : split(mixed, ',')) {
    plan.exceptions_.push_back(parse_exception(word));
    plan.text_ += fmt::format(", {}", word);
  }
  return plan;
}

// What the base means for one place.
std::optional<WeightScheme> QuantizationPlan::base_scheme(const Place& place, bool is_moe) const {
  if (!base_ || place.role == Role::kLmHead) return std::nullopt;
  const Method method = base_->method;
  const bool two_bits = method == Method::kCcq25 || method == Method::kCcq2;
  const bool for_experts =
      two_bits || (is_moe && (method == Method::kInt4 || method == Method::kW4a8));
  if (!for_experts) return base_;
  if (place.role != Role::kExperts) return WeightScheme{Method::kInt8};
  if (two_bits && place.layer < kFirstCcqLayer) return WeightScheme{Method::kInt4};
  return base_;
}

std::optional<WeightScheme> QuantizationPlan::scheme(std::string_view pt_name, bool is_moe) const {
  const std::optional<Place> place = find(pt_name);
  if (!place) return std::nullopt;
  std::optional<WeightScheme> scheme = base_scheme(*place, is_moe);
  for (const Exception& exception : exceptions_) {
    const bool fits = std::find(exception.roles.begin(), exception.roles.end(), place->role) !=
                      exception.roles.end();
    const bool here = place->role == Role::kLmHead || (place->layer >= exception.first_layer &&
                                                       place->layer <= exception.last_layer);
    if (fits && here) scheme = exception.scheme;
  }
  return scheme;
}

}  // namespace erne
