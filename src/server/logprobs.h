// The three wire forms of token log-probabilities: chat, completions and /generate.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>

#include "engine/request.h"
#include "token/tokenizer.h"

namespace erne::server {

/// {"token","bytes","logprob","top_logprobs":[…]} per token; `top` alternatives each.
nlohmann::ordered_json chat_logprobs(std::span<const TokenLogprob> logprobs, int top,
                                     const Tokenizer& tokenizer);

/// Lists of the completions API, growing over a choice's outputs; text_offset counts characters of
/// the whole text.
class CompletionLogprobs {
 public:
  CompletionLogprobs(const Tokenizer& tokenizer, int top, bool skip_special_tokens)
      : tokenizer_(&tokenizer), top_(top), skip_special_(skip_special_tokens) {}
  /// {"tokens","token_logprobs","top_logprobs","text_offset"} of these tokens. `first_is_null`:
  /// entry 0 opens the prompt and has no logprob.
  nlohmann::ordered_json add(std::span<const TokenLogprob> logprobs, bool first_is_null = false);

 private:
  const Tokenizer* tokenizer_;
  int top_;
  bool skip_special_;
  int64_t offset_ = 0;  // characters begun so far
};

/// [[logprob, id, text|null], …]. `first_is_null` as above.
nlohmann::ordered_json generate_logprobs(std::span<const TokenLogprob> logprobs, bool with_text,
                                         bool first_is_null, const Tokenizer& tokenizer);
/// Per token its `top` alternatives in that form, or null where there are none.
nlohmann::ordered_json generate_top_logprobs(std::span<const TokenLogprob> logprobs, int top,
                                             bool with_text, const Tokenizer& tokenizer);

}  // namespace erne::server
