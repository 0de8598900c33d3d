// Which tokens are special, and which begin and end a text: tokenizer_config.json,
// special_tokens_map.json, added_tokens.json.
#pragma once

#include <filesystem>

#include "token/bpe_tokenizer.h"

namespace erne {

/// Adds what the folder's files say to `parts`, whose vocabulary holds the model's tokens. A file
/// that is missing says nothing. with_added_tokens: also read added_tokens.json (tokenizer.json
/// already holds its tokens). Throws Error{kCorrupt} naming the file for wrong types and for ids
/// that contradict the vocabulary.
void read_special_tokens(const std::filesystem::path& folder, bool with_added_tokens,
                         BpeParts& parts);

}  // namespace erne
