// What a request must be before it may enter the engine (spec serving.md 4.3).
#pragma once

#include <cstdint>

#include "engine/engine.h"
#include "engine/request.h"

namespace erne {

/// Below it a penalised logit could leave the range of a float.
inline constexpr double kMinRepetitionPenalty = 1e-3;

/// Removes, with a warning, each sampling default that validate() would refuse in a request.
void drop_unusable_defaults(GenerationConfig& generation);

/// Checks a request against model and pool. With options.allow_auto_truncate an over-long prompt is
/// cut at its end and an over-long answer shortened. Throws Error{kInvalidArgument} naming the
/// field. Returns the most tokens it may generate.
int64_t validate(Request& request, const EngineOptions& options, int64_t vocab_size);

}  // namespace erne
