// GGUF metadata as the JSON files of a Hugging Face folder: config.json and generation_config.json
// here, the tokenizer's in gguf_tokenizer.h. Key names: ggml's docs/gguf.md and llama.cpp's
// architectures llama, ernie4_5 and ernie4_5-moe.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "tensor/gguf.h"

namespace erne {

/// config.json of a GGUF file, with "_name_or_path" = name (general.name when empty). Throws
/// Error{kUnsupported} for other architectures, RoPE scaling, experts in a llama, and split files;
/// Error{kCorrupt} for missing or senseless metadata.
nlohmann::ordered_json gguf_config(const GgufFile& file, const std::string& name);
/// Token ids that begin, end and pad; several ids end a text where the file names an end of turn
/// too.
nlohmann::ordered_json gguf_generation_config(const GgufFile& file);

}  // namespace erne
