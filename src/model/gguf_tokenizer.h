// The tokenizer inside a GGUF file as the two files that Hugging Face tools and our tokenizer read.
// Byte-level BPE (gpt2 with pre-tokenizer smollm or gpt-2) carries tokens and merges; SentencePiece
// BPE (llama) carries scores, from which the merges follow (spec text.md 6.4).
#pragma once

#include "base/json.h"
#include "tensor/gguf.h"

namespace erne {

struct GgufTokenizer {
  nlohmann::ordered_json tokenizer;  ///< tokenizer.json
  nlohmann::ordered_json config;     ///< tokenizer_config.json, chat template included
};

/// Throws Error{kUnsupported} naming an unknown tokenizer model or pre-tokenizer, Error{kCorrupt}
/// for lists that contradict each other.
GgufTokenizer gguf_tokenizer(const GgufFile& file);

}  // namespace erne
