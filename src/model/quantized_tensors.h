// The quantised weights of a checkpoint folder, by PT name.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "model/config.h"
#include "model/layout.h"
#include "tensor/code_rows.h"

namespace erne {

using QuantizedTensors = std::unordered_map<std::string, std::shared_ptr<const CodeRows>>;

/// Moves the tensors of quantised weights out of `sources`, whose mapped bytes must outlive the
/// result. Nothing happens where config says that the folder is not quantised. Throws
/// Error{kCorrupt} naming file, tensor and cause.
QuantizedTensors take_quantized(std::vector<SourceTensor>& sources, const TextConfig& config);

/// The number that a code stands for.
float code_value(const CodeFormat& format, int8_t code, float scale, float min);

/// A row of code_values as numbers that meet inputs which are not rotated.
void unrotate(const CodeFormat& format, std::span<float> row);

/// Row `row` as numbers, into dst [cols].
void dequantize_row(const CodeRows& rows, int64_t row, float* dst);

}  // namespace erne
