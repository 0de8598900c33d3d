// Quantised weights as other projects store them (spec quantization.md 11), by PT name.
#pragma once

#include <vector>

#include "model/quantized_tensors.h"

namespace erne {

/// Moves the tensors of quantised linears ("….q_proj.qweight" …) out of `sources`, whose mapped
/// bytes must outlive the result; a linear that is stored as numbers stays. Throws Error{kCorrupt,
/// kUnsupported} naming tensor and cause; GPTQ with groups scattered over the inputs (desc_act) is
/// unsupported.
QuantizedTensors take_community(std::vector<SourceTensor>& sources, const TextConfig& config);

}  // namespace erne
