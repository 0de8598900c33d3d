// The other direction of layout.h: which tensors a folder of a given layout holds, and which PT
// tensors each is made of.
#pragma once

#include <string>
#include <vector>

#include "model/layout.h"

namespace erne {

/// A tensor to write: its parts stand one below the other as rows (fused projections, stacked
/// experts).
struct PlannedTensor {
  std::string name;
  std::vector<int64_t> shape;         ///< as stored
  bool transposed = false;            ///< the stored form is [in, out]
  std::vector<ExpectedTensor> parts;  ///< PT tensors; all of one kind and one width

  TensorKind kind() const { return parts.front().kind; }
};

/// In the order of a forward pass.
std::vector<PlannedTensor> plan_layout(const TextConfig& config, CheckpointLayout layout,
                                       int num_mtp_layers);

}  // namespace erne
