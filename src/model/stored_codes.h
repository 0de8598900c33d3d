// How a quantised weight NAME lies in a folder that `erne quantize` writes (spec quantization.md
// 13): NAME holds the codes in row order (I8 [n, k]; F8_E4M3 [n, k]; or U8 [n, ceil(k / 2)], two
// 4-bit codes a byte, the even column in the low half), NAME.scale and, with minimums, NAME.min
// [n, groups] f32, bf16 or f16. Where inputs are to be rotated or rounded, NAME.inputs is I32 [2]:
// the block of the rotation and Inputs as a number; NAME.input_absmax, F32 [1], is their static
// range, if there is one. 2-bit weights: stored_ccq.h.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/layout.h"
#include "tensor/code_rows.h"
#include "tensor/safetensors.h"

namespace erne {

class ThreadPool;

inline constexpr std::string_view kScaleSuffix = ".scale";
inline constexpr std::string_view kMinSuffix = ".min";
inline constexpr std::string_view kInputsSuffix = ".inputs";
inline constexpr std::string_view kInputAbsmaxSuffix = ".input_absmax";
inline constexpr std::string_view kSuperSuffix = ".super";
inline constexpr std::string_view kCodeScaleSuffix = ".code_scale";
inline constexpr std::string_view kCodeZpSuffix = ".code_zp";

/// The stored tensors of a quantised weight, in the order in which write_codes() gives their bytes.
std::vector<TensorInfo> code_infos(const std::string& name, const CodeRows& rows);

/// Sees a row as it is written, from several threads.
using RowObserver = std::function<void(int64_t row, const std::vector<int8_t>& codes,
                                       const float* scales, const float* mins)>;

/// Reads every row once and writes codes, scales and minimums. Holds the scales and a few MB.
void write_codes(const CodeRows& rows, ThreadPool& pool, SafetensorsWriter& writer,
                 const RowObserver& observer = {});

/// The tensors of one weight in a file that is being read.
struct StoredCodeParts {
  std::optional<SourceTensor> codes, scales, mins, inputs, input_absmax;
  std::optional<SourceTensor> super, code_scale, code_zp;  ///< of 2-bit weights

  /// Some tensor that is there.
  const SourceTensor& any() const;
};

/// The part of its weight that a tensor is by its suffix, which is cut off `name`; null for others.
std::optional<SourceTensor> StoredCodeParts::*find_part(std::string_view& name);

/// Whether a tensor of this type can hold codes; words of 2.5 bits are told by their .super.
bool holds_codes(DType dtype);

/// The weight as rows over the mapped bytes. Throws Error{kCorrupt} naming file, tensor and cause
/// where shapes or types contradict each other or `wanted`; parts.codes must be there.
std::shared_ptr<const CodeRows> open_codes(const StoredCodeParts& parts,
                                           const ExpectedTensor& wanted);

}  // namespace erne
