// Quantised folders in Paddle's layout (spec quantization.md 2 to 8): NAME.quant_weight with
// NAME.weight_scale, or super_scales, code_scale and code_zp of 2 bits, where NAME is a linear by
// its PT name or a fused one (qkv_proj, up_gate_proj).
#pragma once

#include "model/quantized_tensors.h"

namespace erne {

/// take_quantized() for such folders. wint8 and wint4 in the layout of sm_75 … sm_90, fp8 by block,
/// channel or tensor (rotated in blocks of 32), wint2.5 and wint2. Throws Error{kCorrupt,
/// kUnsupported} naming file, tensor and cause.
QuantizedTensors take_paddle(std::vector<SourceTensor>& sources, const TextConfig& config);

}  // namespace erne
