// Made-up weights for a configuration, so that speed and memory can be measured without a
// checkpoint.
//
// Every tensor is a window into one pool of random numbers, its rows overlapping where it is larger
// than the pool: a model of any size costs 32 MiB before it is packed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <unordered_map>

#include "model/config.h"
#include "tensor/buffer.h"
#include "tensor/tensor.h"

namespace erne {

struct DummyTensors {
  Buffer pool;
  std::unordered_map<std::string, MatrixView> views;  ///< by PT name; vectors have one row
};

/// Every tensor of the model, a function of `config` and `seed` alone. Linears, router and
/// embedding: bf16 of mean 0 and standard deviation `scale` (0: all zeros); norms 1; biases 0.
DummyTensors make_dummy_tensors(const TextConfig& config, double scale, uint64_t seed);

/// initializer_range of folder/config.json, 0.02 where it has none. Throws Error{kInvalidArgument}
/// for one that is not positive.
double initializer_range(const std::filesystem::path& folder);

}  // namespace erne
