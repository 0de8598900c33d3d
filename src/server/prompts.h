// Prompts of the routes without a chat template: text or ids, one or many.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "token/tokenizer.h"

namespace erne::server {

/// At most this many prompts in one request.
inline constexpr size_t kMaxPrompts = 1024;

struct Prompts {
  std::vector<std::vector<int32_t>> ids;
  bool batch = false;  ///< a list of prompts, not one
};

/// str, [str], [int] or [[int]]. Text may hold special tokens by name (raw prompts are their
/// writer's own); BOS is added to text where the tokenizer's files ask for it. Throws RequestError
/// with the path of what is wrong.
Prompts read_prompts(const nlohmann::ordered_json& value, const std::string& path,
                     const Tokenizer& tokenizer, int64_t vocab_size);

/// Ids of a raw prompt, BOS added where the tokenizer's files ask for it.
std::vector<int32_t> encode_raw(const std::string& text, const Tokenizer& tokenizer);

}  // namespace erne::server
