// What calibration does to which tensors of a model (spec quantization.md 9, 10.3): methods, the
// MLPs of a layer, and where AWQ scales are folded into.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "model/config.h"
#include "model/quantization.h"
#include "model/text_weights.h"
#include "quant/round_to_nearest.h"

namespace erne {

enum class CalibrationMethod : uint8_t { kGptq, kAwq, kAwqGptq };

/// "gptq", "awq", "awq+gptq".
std::string_view calibration_name(CalibrationMethod method);
/// Throws Error{kInvalidArgument} naming the valid words.
CalibrationMethod parse_calibration_method(std::string_view word);

class CalibrationPlan {
 public:
  /// Both must outlive this. Throws Error{kInvalidArgument} for a plan that gives no linear of a
  /// layer integers.
  CalibrationPlan(const TextConfig& config, const QuantizationPlan& plan, CalibrationMethod method);

  bool gptq() const { return method_ != CalibrationMethod::kAwq; }
  CalibrationMethod method() const { return method_; }

  std::optional<WeightScheme> scheme(const std::string& name) const;
  /// How a linear is rounded; nullopt where it becomes no integers.
  std::optional<Rounding> rounding(const std::string& name) const;

  /// The dense MLP, or all experts and then the shared ones.
  std::vector<MlpPlace> mlps(int layer) const;

  /// Scales go where every linear that reads the scaled values can take them without being rounded
  /// twice: it becomes integers from scaled weights.
  bool folds_input_norm(int layer) const;
  bool folds_post_norm(int layer) const;
  bool folds_v(int layer) const;  ///< into o_proj: only without grouped heads
  bool folds_up(const MlpPlace& mlp) const;

  /// The tensors beside linears into which scales are folded: norms, routers and biases.
  std::unordered_set<std::string> rewritten() const;

 private:
  bool awq() const { return method_ != CalibrationMethod::kGptq; }
  bool all_integers(const std::string& prefix, std::initializer_list<const char*> names) const;

  const TextConfig& config_;
  const QuantizationPlan& plan_;
  CalibrationMethod method_;
};

}  // namespace erne
