// Hugging Face tokenizer.json: BPE models with the steps that ERNIE-, Llama-, Qwen- and
// SmolLM-style files use.
#pragma once

#include <string>
#include <string_view>

#include "token/bpe_tokenizer.h"

namespace erne {

/// `file` names the source in errors. Throws Error{kCorrupt} for a file that contradicts itself and
/// Error{kUnsupported} naming the step or option that is not built.
BpeParts read_tokenizer_json(std::string_view text, const std::string& file);

}  // namespace erne
