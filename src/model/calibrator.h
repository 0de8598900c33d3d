// Calibration text through a model, half a layer at a time (spec quantization.md 10): statistics of
// what each linear is fed, AWQ scales folded into whatever feeds it, codes by GPTQ, and on with the
// outputs of the codes. In memory are the hidden states of all tokens, half a layer, and the
// statistics of one linear's inputs; experts come one after the other.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "device/device.h"
#include "model/calibrated_linear.h"
#include "model/calibration_plan.h"
#include "model/hidden_states.h"
#include "model/text_weights.h"
#include "quant/awq.h"

namespace erne {

class Checkpoint;
class ThreadPool;

struct CalibrationOptions {
  CalibrationMethod method = CalibrationMethod::kGptq;
  std::vector<std::vector<int32_t>> samples;  ///< token ids; each sample is a sequence of its own
  Device* device = nullptr;                   ///< computes in host memory
  DType dtype = DType::kF32;                  ///< of that computation: kF32 or kBF16
  /// Linears with fewer inputs (experts that few tokens chose) are rounded to the nearest.
  int64_t min_rows = 256;
};

/// What the tensors of a layer, or the head, become: codes for every linear of the plan, and
/// float32 numbers for what AWQ scales were folded into.
struct CalibratedTensors {
  WeightOverlay overlay;
  std::map<std::string, CalibratedLinear> linears;  ///< those of integers, by PT name
};

class Calibrator {
 public:
  /// The tensors of a layer that an earlier run has finished, or nothing.
  using Finished = std::function<std::optional<WeightOverlay>(int layer)>;

  /// Everything must outlive this. Throws Error{kInvalidArgument} for no or too few tokens, samples
  /// longer than the model's context, and ids that it has not.
  Calibrator(const Checkpoint& checkpoint, const CalibrationPlan& plan,
             const CalibrationOptions& options, ThreadPool& pool, Finished finished);

  /// Layers in rising order; those left out are run as they are finished, or calibrated too. Valid
  /// until the next call.
  const CalibratedTensors& layer(int index);
  /// lm_head, after all layers.
  const CalibratedTensors& head();

 private:
  using Scales = std::vector<float>;  // empty: 1
  struct Mlp;
  struct Consumer;

  void advance(int index);
  void calibrate_layer();
  void calibrate_attention();
  void calibrate_feed_forward();
  void calibrate_mlp(const Mlp& mlp, std::span<const float> norm, const Scales& input_scale);
  void run(LayerHalf half, const WeightOverlay& overlay);
  std::vector<Mlp> routed_mlps(std::span<const float> norm);
  Scales post_norm_scales(const std::vector<Mlp>& mlps, std::span<const float> norm);

  AwqLinear awq_linear(const std::string& name, int64_t rows, int64_t cols,
                       std::span<const float> samples) const;
  void fold(const std::string& name, int64_t rows, int64_t cols, const Scales& scale, bool divide);
  void calibrate(std::span<const Consumer> consumers, InputStatistics& inputs,
                 const Scales& input_scale);

  const Checkpoint& checkpoint_;
  const TextConfig& config_;
  const CalibrationPlan& plan_;
  const CalibrationOptions& options_;
  ThreadPool& pool_;
  Finished finished_;
  LoadOptions load_;
  HiddenStates states_;
  std::vector<int32_t> all_rows_;  // 0 … num_tokens - 1
  int next_ = 0;                   // layer that the states enter
  CalibratedTensors current_;
};

}  // namespace erne
