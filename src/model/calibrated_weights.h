// Calibration as `erne quantize` needs it: the tensors of whichever layer is written next, and what
// an interrupted run has already written.
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "model/calibrator.h"
#include "model/layout.h"
#include "tensor/safetensors.h"

namespace erne {

class CalibratedWeights {
 public:
  /// All must outlive this. Throws Error as Calibrator and CalibrationPlan do.
  CalibratedWeights(const Checkpoint& checkpoint, const QuantizationPlan& plan,
                    const CalibrationOptions& options, ThreadPool& pool);

  /// A tensor that will be written, and whether as codes.
  struct Tensor {
    ExpectedTensor expected;
    bool is_codes = false;
  };
  /// Says where it will lie, or lies. Before the first call of of().
  void expect(const Tensor& tensor, const std::filesystem::path& file);

  /// Whether calibration changes a tensor that is not quantised; it is float32 then.
  bool rewrites(const std::string& name) const { return rewritten_.contains(name); }
  /// What holds this tensor of a layer, or the head, calibrated; null for the others. Layers in
  /// rising order. Valid until the next call.
  const CalibratedTensors* of(const std::string& name);

 private:
  struct Place {
    Tensor tensor;
    std::filesystem::path file;
  };
  std::optional<WeightOverlay> finished(int layer);
  const SafetensorsFile& open(const std::filesystem::path& file);

  int num_layers_;
  CalibrationPlan plan_;
  std::unordered_set<std::string> rewritten_;
  Calibrator calibrator_;
  std::map<int, std::vector<Place>> places_;                // by layer
  std::map<std::filesystem::path, SafetensorsFile> files_;  // of an earlier run
  int layer_ = -1;  // whose tensors current_ has; num_layers_: the head
  const CalibratedTensors* current_ = nullptr;
};

/// What must be equal for the files of an interrupted run to be of use.
nlohmann::ordered_json calibration_identity(const CalibrationOptions& options);

}  // namespace erne
