// Grouping PT tensors into what a layout stores: fused projections, stacked experts, Paddle names.
#include "model/layout_plan.h"

#include <utility>

#include "base/error.h"

namespace erne {
namespace {

bool replace_once(std::string& text, std::string_view from, std::string_view to) {
  const size_t at = text.find(from);
  if (at == std::string::npos) return false;
  text.replace(at, from.size(), to);
  return true;
}

bool is_routed_expert(std::string_view name) {
  return name.find(".mlp.experts.") != std::string_view::npos;
}

// "model.layers.3.mlp.experts.7.up_proj.weight" -> "model.layers.3.mlp.experts.gate_up_proj"
std::string stacked_name(const std::string& name) {
  const std::string stem = name.substr(0, name.find(".mlp.experts.")) + ".mlp.experts.";
  return stem + (name.ends_with(".down_proj.weight") ? "down_proj" : "gate_up_proj");
}

// The fused name of a projection, or its own.
std::string fused_name(std::string name) {
  for (const char* part : {".q_proj.", ".k_proj.", ".v_proj."}) {
    if (replace_once(name, part, ".qkv_proj.")) return name;
  }
  for (const char* part : {".gate_proj.", ".up_proj."}) {
    if (replace_once(name, part, ".up_gate_proj.")) return name;
  }
  return name;
}

std::string stored_name(std::string name, CheckpointLayout layout) {
  switch (layout) {
    case CheckpointLayout::kPt:
      return name;
    case CheckpointLayout::kEarlyPt:
      return fused_name(std::move(name));
    case CheckpointLayout::kPaddle:
      name = fused_name(std::move(name));
      if (name.starts_with("model.")) name.replace(0, 6, "ernie.");
      return name;
    case CheckpointLayout::kStacked:
      if (is_routed_expert(name)) return stacked_name(name);
      replace_once(name, ".mlp.moe_statics.", ".mlp.gate.moe_statics.");
      return name;
  }
  ERNE_CHECK(false, "layout {}", static_cast<int>(layout));
}

std::vector<int64_t> stored_shape(const PlannedTensor& tensor, int64_t num_experts) {
  const ExpectedTensor& first = tensor.parts.front();
  if (tensor.parts.size() == 1 && !tensor.transposed) return first.pt_shape();
  int64_t rows = 0;
  int64_t cols = 0;
  for (const ExpectedTensor& part : tensor.parts) {
    rows += part.rows;
    cols += part.cols;
  }
  if (first.kind == TensorKind::kVector) return {cols};
  if (tensor.name.ends_with(".mlp.experts.gate_up_proj") ||
      tensor.name.ends_with(".mlp.experts.down_proj")) {
    return {num_experts, rows / num_experts, first.cols};
  }
  if (tensor.transposed) return {first.cols, rows};
  return {rows, first.cols};
}

}  // namespace

std::vector<PlannedTensor> plan_layout(const TextConfig& config, CheckpointLayout layout,
                                       int num_mtp_layers) {
  std::vector<ExpectedTensor> wanted = expected_tensors(config);
  for (int depth = 0; depth < num_mtp_layers; ++depth) {
    for (ExpectedTensor& tensor : expected_mtp_tensors(config, depth))
      wanted.push_back(std::move(tensor));
  }
  std::vector<PlannedTensor> plan;
  std::unordered_map<std::string, size_t> by_name;
  for (ExpectedTensor& tensor : wanted) {
    const std::string name = stored_name(tensor.name, layout);
    const auto [it, inserted] = by_name.emplace(name, plan.size());
    if (inserted) {
      const bool matrix = tensor.kind == TensorKind::kLinear || tensor.kind == TensorKind::kRouter;
      plan.push_back({name, {}, layout == CheckpointLayout::kPaddle && matrix, {}});
    }
    plan[it->second].parts.push_back(std::move(tensor));
  }
  for (PlannedTensor& tensor : plan) tensor.shape = stored_shape(tensor, config.num_experts);
  return plan;
}

}  // namespace erne
