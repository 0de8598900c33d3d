// quantization_config of config.json (spec quantization.md 11): how the linears of a quantised
// folder are stored. Which linears are, their tensors say; compressed-tensors says it too.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/module_patterns.h"
#include "tensor/dtype.h"

namespace erne {

struct QuantizationConfig {
  enum class Method : uint8_t {
    kNone,
    kErne,     ///< what `erne quantize` and `erne convert --keep-types` write
    kAwqGemm,  ///< qweight, qzeros, scales
    kAwqGemv,
    kGptq,        ///< qweight, qzeros, scales, g_idx
    kCompressed,  ///< compressed-tensors: as the group that the linear is in
    kPacked,      ///< its pack-quantized: weight_packed, weight_scale, …
    kInt8,        ///< its int-quantized: weight, weight_scale, …
    kFp8,         ///< weight, and weight_scale_inv or weight_scale
    kPaddle,      ///< quant_weight, weight_scale, …
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

  /// A group of a compressed-tensors folder.
  struct Group;
  std::vector<Group> groups;  ///< with kCompressed, and only then
  ModulePatterns ignore;      ///< linears that are in no group

  /// How a linear, by its name without ".weight", is stored according to config.json: this, or its
  /// group's; null: as numbers. The closest target wins. Throws Error{kInvalidArgument} where two
  /// groups name it equally closely.
  const QuantizationConfig* of(const std::string& module) const;
};

struct QuantizationConfig::Group {
  std::string name;
  ModulePatterns targets;
  QuantizationConfig config;  ///< kPacked, kInt8 or kFp8
};

/// Throws Error{kUnsupported, kInvalidArgument} naming `what`, key, value and what is supported.
QuantizationConfig parse_quantization_config(const nlohmann::json& json, std::string_view what);

}  // namespace erne
