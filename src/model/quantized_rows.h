// Rounding a matrix by a scheme: from a plan's words to the codecs of quant/.
#pragma once

#include <memory>
#include <optional>

#include "model/config.h"
#include "model/quantization.h"
#include "quant/round_to_nearest.h"
#include "tensor/code_rows.h"
#include "tensor/tensor.h"

namespace erne {

/// How an integer scheme rounds; nullopt for the others.
std::optional<Rounding> integer_rounding(const WeightScheme& scheme);
/// How rows of an integer scheme are stored.
CodeFormat scheme_format(const WeightScheme& scheme);

/// The rows of `numbers` as the scheme rounds them. Integers are rounded when a row is read, so
/// that nothing is held; `numbers` must outlive the result.
std::shared_ptr<const CodeRows> quantize_rows(const MatrixView& numbers,
                                              const WeightScheme& scheme);

/// The same of rows that are codes already, by way of their numbers, which are held in memory.
std::shared_ptr<const CodeRows> quantize_rows(std::shared_ptr<const CodeRows> codes,
                                              const WeightScheme& scheme);

/// Throws Error{kInvalidArgument} where the base of the plan is meant for experts that the model
/// has not (2-bit schemes) and no exception uses it either.
void check_plan(const QuantizationPlan& plan, const TextConfig& config);

}  // namespace erne
