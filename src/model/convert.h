// From a GGUF file or a Hugging Face folder of any layout to a Hugging Face folder of a chosen
// layout and dtype. Tensor by tensor; the folder appears whole or not at all.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "model/checkpoint.h"

namespace erne {

struct ConvertOptions {
  std::filesystem::path input;  ///< a folder or a GGUF file
  std::filesystem::path
      output;  ///< a folder that does not exist, is empty, or (with force) holds a model
  CheckpointLayout layout = CheckpointLayout::kPt;
  /// kF32, kF16 or kBF16. Not set: bfloat16 from GGUF, as stored from a folder. The router stays
  /// float32 in any case.
  std::optional<DType> dtype = {};
  /// Linears of a GGUF file keep its blocks as codes where these are exact (quant/gguf_codes.h),
  /// so that the folder is a quantised one; layout kPt only.
  bool keep_types = false;
  uint64_t max_shard_bytes = 5'000'000'000;
  std::string name = {};  ///< shown as the model's name; empty keeps the input's
  /// Written to generation_config.json as the model's sampling defaults; GGUF files carry none.
  std::optional<double> temperature = {};
  std::optional<double> top_p = {};
  bool force = false;
  bool show_progress = false;
};

struct ConvertResult {
  int64_t num_tensors = 0;
  int num_files = 0;
  uint64_t bytes = 0;
  DType dtype = DType::kBF16;  ///< of the numbers among the weights
  int64_t num_quantized = 0;   ///< weights that kept their codes
};

/// Throws Error naming file, tensor and cause; nothing is left behind then.
ConvertResult convert(const ConvertOptions& options);

}  // namespace erne
