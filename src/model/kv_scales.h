// Static KV scales of a checkpoint (spec quantization.md 2, 6): tensors
// self_attn.cachek_matmul.activation_scale and cachev_matmul.activation_scale of every layer, the
// largest magnitude that calibration saw, for each channel or each kv head.
#pragma once

#include <vector>

#include "model/config.h"
#include "model/layout.h"

namespace erne {

/// Of one layer; [kv_heads * head_dim] each.
struct KvAbsmax {
  std::vector<float> keys;
  std::vector<float> values;
};

/// Moves the scales out of `sources`: one entry a layer, or none where the files hold none. Throws
/// Error{kCorrupt} naming file, tensor and cause; Error{kUnsupported} for zero points.
std::vector<KvAbsmax> take_kv_scales(std::vector<SourceTensor>& sources, const TextConfig& config);

}  // namespace erne
