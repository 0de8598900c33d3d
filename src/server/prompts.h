// Prompts of the routes without a chat template: text or ids, one or many.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "server/service.h"
#include "token/tokenizer.h"

namespace erne::server {

/// At most this many prompts in one request.
inline constexpr size_t kMaxPrompts = 1024;

/// And at most this many choices, prompts times n: each is a running request with its own state.
inline constexpr size_t kMaxChoices = 2048;

struct Prompts {
  std::vector<std::vector<int32_t>> ids;
  bool batch = false;  ///< a list of prompts, not one
};

/// str, [str], [int] or [[int]]. Text may hold special tokens by name (raw prompts are their
/// writer's own); BOS is added to text where the tokenizer's files ask for it. Throws RequestError
/// with the path of what is wrong.
Prompts read_prompts(const nlohmann::ordered_json& value, const std::string& path,
                     const Tokenizer& tokenizer, int64_t vocab_size);

/// Throws RequestError naming `field` if `num_choices` of one request are more than kMaxChoices.
void check_choices(size_t num_prompts, size_t num_choices, const std::string& field);

/// Refuses text that is longer than the context's tokens could spell, before the work of tokenizing
/// it; not with --allow-auto-truncate. Throws RequestError with code word context_length_exceeded.
void check_text_fits(std::string_view text, const std::string& path, const Service& service);
/// The same for every text in `prompt`, which may be of any type.
void check_text_fits(const nlohmann::ordered_json& prompt, const std::string& path,
                     const Service& service);

/// Ids of a raw prompt, BOS added where the tokenizer's files ask for it.
std::vector<int32_t> encode_raw(const std::string& text, const Tokenizer& tokenizer);

}  // namespace erne::server
