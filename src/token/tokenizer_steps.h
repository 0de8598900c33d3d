// The pipeline of a tokenizer.json: normalizer, pre_tokenizer, post_processor, decoder.
#pragma once

#include "token/bpe_tokenizer.h"
#include "token/json_fields.h"

namespace erne {

/// Reads the four steps of `top`, the whole file, into `parts`, whose vocabulary is complete.
/// Throws Error{kUnsupported} naming a step or option that is not built, Error{kCorrupt} for wrong
/// types.
void read_steps(const JsonFields& top, BpeParts& parts);

}  // namespace erne
