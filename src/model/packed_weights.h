// A packed folder: the weights of a model in the order in which one device's kernels read them, so
// that loading maps them and touches none. config.json, tokenizer and the rest are as in any
// folder; in place of model.safetensors stands packed.safetensors:
//
//   NAME.packed    U8 [bytes], a linear as Device::pack_* left it, with kPackedSlack bytes and
//                  padding up to a multiple of kPackedAlign behind it. NAME names what is fused:
//                  "model.layers.0.self_attn.qkv_proj", "….mlp.up_gate_proj", …
//   router, norms, biases, KV scales, embedding: ordinary tensors under their PT names
//
// `__metadata__` holds format ("erne packed weights"), version, dtype, inputs, cache (type of the
// KV cache where none is named), flags (of the command that made it), source, device, and for every
// packed tensor, under its name, "N|K|KIND|CODES|ABSMAX|LAYOUT": rows, columns, plain or gate_up,
// "numbers" or the format of the codes, their input_absmax, Device::weight_layout(). A format is
// "TYPE:GROUP:MIN:SCALES:ROTATION:INPUTS", as in "int4:32:min:bfloat16:1:full" and
// "int8:0:-:float32:128:int8_row".
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>

#include "device/device.h"
#include "tensor/safetensors.h"

namespace erne {

inline constexpr const char* kPackedFile = "packed.safetensors";
inline constexpr const char* kPackedSuffix = ".packed";
inline constexpr int kPackedVersion = 1;
/// Tensors begin at multiples of this (a page), the first at a multiple of kPackedStart (a huge
/// page).
inline constexpr uint64_t kPackedAlign = 4096;
inline constexpr uint64_t kPackedStart = uint64_t{2} << 20;
/// Kernels may read this far past the end of a weight.
inline constexpr uint64_t kPackedSlack = 64;

struct PackedWeights {
  DType dtype = DType::kBF16;  ///< of the inputs of linears, and of weights that are numbers
  Inputs inputs = Inputs::kFull;
  DType cache_dtype = DType::kBF16;  ///< of the KV cache, unless another is asked for
  std::string flags;                 ///< "--dtype bfloat16 --quantization wint4:g32"
  std::string source;                ///< the model as the command named it
  std::string device;                ///< "AMD EPYC, avx512_bf16"
  std::unordered_map<std::string, PackedWeight> linears;  ///< by NAME; data with the padding
  std::span<const std::byte> data;                        ///< all of them, side by side

  bool has_codes() const;
  /// "erne convert --pack SOURCE OUT --dtype …": the command that packs this model again.
  std::string command() const;
};

/// What stands in the metadata beside a packed tensor.
std::string packed_text(const PackedWeight& w);

/// "full", "int8", "int8_row".
std::string_view inputs_word(Inputs inputs);

/// Bytes that a weight of `bytes` takes in the file.
constexpr uint64_t packed_size(uint64_t bytes) {
  return (bytes + kPackedSlack + kPackedAlign - 1) / kPackedAlign * kPackedAlign;
}

/// Checks version, words, places and sizes of every packed tensor. Throws Error{kUnsupported} for
/// another version, Error{kCorrupt} naming file, tensor and cause. Whether the weights are those
/// that the model needs, their user checks.
PackedWeights read_packed_weights(const SafetensorsFile& file);

}  // namespace erne
