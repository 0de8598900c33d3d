// quantization_config of config.json (spec quantization.md 11): how the linears of a quantised
// folder are stored. Which linears are, their tensors say.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "tensor/dtype.h"

namespace erne {

struct QuantizationConfig {
  enum class Method : uint8_t {
    kNone,
    kErne,     ///< what `erne quantize` and `erne convert --keep-types` write
    kAwqGemm,  ///< qweight, qzeros, scales
    kAwqGemv,
    kGptq,    ///< qweight, qzeros, scales, g_idx
    kPacked,  ///< compressed-tensors pack-quantized: weight_packed, weight_scale, …
    kInt8,    ///< compressed-tensors int-quantized: weight, weight_scale, …
    kFp8,     ///< weight, and weight_scale_inv or weight_scale
    kPaddle,  ///< quant_weight, weight_scale, …
  };
  Method method = Method::kNone;
  int bits = 4;
  int64_t group = -1;          ///< inputs that share a scale; -1: all
  bool zero_minus_one = true;  ///< of GPTQ: qzeros hold z - 1
  int64_t block_rows = 0;      ///< of fp8: weights that share a scale; 0: a row or all
  int64_t block_cols = 0;
  std::string dense_type = {};            ///< of Paddle, by Paddle's names: of everything but ...
  std::string expert_type = {};           ///< ... the experts
  std::optional<DType> cache_dtype = {};  ///< what the KV cache is meant to be: kI8 or kF8E4M3
};

/// Throws Error{kUnsupported, kInvalidArgument} naming `what`, key, value and what is supported.
QuantizationConfig parse_quantization_config(const nlohmann::json& json, std::string_view what);

}  // namespace erne
