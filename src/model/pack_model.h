// From a model folder to a packed one (packed_weights.h), one linear after the other: what is in
// memory at a time is the largest of them. The folder appears whole or not at all.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "model/text_model.h"

namespace erne {

struct PackOptions {
  std::filesystem::path input;   ///< a folder
  std::filesystem::path output;  ///< as ConvertOptions::output
  std::string source;            ///< the input as the user named it, for messages
  LoadOptions load;              ///< dtype, quantization, inputs
  bool force = false;
};

struct PackResult {
  int64_t num_linears = 0;
  uint64_t bytes = 0;  ///< of packed.safetensors
  std::string flags;   ///< PackedWeights::flags
};

/// Packs for `device`. Throws Error naming file, tensor and cause; nothing is left behind then.
PackResult pack_model(const PackOptions& options, Device& device);

}  // namespace erne
