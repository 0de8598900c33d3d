// SentencePiece tokenizer.model of type BPE.
#pragma once

#include <string>
#include <string_view>

#include "token/bpe_tokenizer.h"

namespace erne {

/// `file` names the source in errors. Throws Error{kCorrupt} for a file that is no such protobuf
/// message or contradicts itself, Error{kUnsupported} for another model type or a normalisation.
BpeParts read_sentencepiece(std::string_view bytes, const std::string& file);

}  // namespace erne
