// From a model folder to one with quantised weights (spec quantization.md 10, 13): tensor by
// tensor, so that a model never has to be in memory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "model/calibrator.h"
#include "model/quantization.h"

namespace erne {

struct QuantizeOptions {
  std::filesystem::path input;   ///< a folder with numbers of any layout
  std::filesystem::path output;  ///< a folder that does not exist, is empty, or (with force) holds
                                 ///< a model
  QuantizationPlan plan;
  /// Runs text through the model and chooses codes by it; absent: every weight is rounded alone.
  std::optional<CalibrationOptions> calibration = {};
  uint64_t max_shard_bytes = 5'000'000'000;
  int num_threads = 0;  ///< 0: all cores
  bool force = false;
  bool show_progress = false;
  /// Called when a weight file is whole. What it throws ends the run, which can go on later.
  std::function<void(const std::string& file)> file_done = {};
};

/// How close the codes of one tensor are to its numbers. AWQ scales are divided out first.
struct TensorError {
  std::string name;
  std::string scheme;
  double snr_db = 0;                       ///< 10 log10(sum w^2 / sum (w - codes)^2)
  double largest = 0;                      ///< largest |w - codes|
  uint64_t bytes = 0;                      ///< codes, scales and mins
  std::optional<OutputError> output = {};  ///< with calibration
};

struct QuantizeResult {
  std::vector<TensorError> tensors;  ///< in the order of a forward pass; those of resumed shards
                                     ///< are missing
  int num_files = 0;
  int num_resumed = 0;  ///< files that an earlier, interrupted run had finished
  uint64_t input_bytes = 0;
  uint64_t bytes = 0;
};

/// Writes PT names; MTP layers keep their numbers. An interrupted run leaves OUTPUT.partial, and
/// the same call goes on from its last whole file. The same input gives the same bytes. Throws
/// Error naming file, tensor and cause.
QuantizeResult quantize(const QuantizeOptions& options);

}  // namespace erne
