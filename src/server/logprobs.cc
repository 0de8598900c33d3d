#include "server/logprobs.h"

#include <algorithm>

#include "base/json.h"
#include "base/utf8.h"

namespace erne::server {
namespace {

/// JSON has no infinities: the floor of spec serving.md 4.2.
double finite(float logprob) { return std::max(static_cast<double>(logprob), -9999.0); }

/// Models have more rows than the tokenizer has tokens: such an id has no bytes.
std::string_view bytes_of(int32_t id, const Tokenizer& tokenizer) {
  return id < tokenizer.vocab_size() ? tokenizer.token_bytes(id) : std::string_view{};
}

std::string token_text(int32_t id, const Tokenizer& tokenizer) {
  return utf8::sanitize(bytes_of(id, tokenizer));
}

OrderedJson chat_entry(int32_t id, float logprob, const Tokenizer& tokenizer) {
  const std::string_view bytes = bytes_of(id, tokenizer);
  OrderedJson list = OrderedJson::array();
  for (const char byte : bytes) list.push_back(static_cast<unsigned char>(byte));
  return {
      {"token", utf8::sanitize(bytes)}, {"bytes", std::move(list)}, {"logprob", finite(logprob)}};
}

/// Characters that begin in these bytes: a character split over tokens counts for the token that
/// begins it.
int64_t characters_begun(std::string_view bytes) {
  return std::ranges::count_if(
      bytes, [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; });
}

OrderedJson generate_entry(int32_t id, float logprob, bool with_text, const Tokenizer& tokenizer) {
  OrderedJson entry = OrderedJson::array({finite(logprob), id, nullptr});
  if (with_text) entry[2] = token_text(id, tokenizer);
  return entry;
}

size_t shown_alternatives(const TokenLogprob& token, int top) {
  return std::min(token.top.size(), static_cast<size_t>(std::max(top, 0)));
}

}  // namespace

OrderedJson chat_logprobs(std::span<const TokenLogprob> logprobs, int top,
                          const Tokenizer& tokenizer) {
  OrderedJson out = OrderedJson::array();
  for (const TokenLogprob& token : logprobs) {
    OrderedJson entry = chat_entry(token.id, token.logprob, tokenizer);
    OrderedJson others = OrderedJson::array();
    for (size_t i = 0; i < shown_alternatives(token, top); ++i) {
      others.push_back(chat_entry(token.top[i].first, token.top[i].second, tokenizer));
    }
    entry["top_logprobs"] = std::move(others);
    out.push_back(std::move(entry));
  }
  return out;
}

OrderedJson CompletionLogprobs::add(std::span<const TokenLogprob> logprobs, bool first_is_null) {
  OrderedJson tokens = OrderedJson::array(), values = OrderedJson::array(),
              tops = OrderedJson::array(), offsets = OrderedJson::array();
  for (size_t i = 0; i < logprobs.size(); ++i) {
    const TokenLogprob& token = logprobs[i];
    const bool null = first_is_null && i == 0;
    tokens.push_back(token_text(token.id, *tokenizer_));
    offsets.push_back(offset_);
    if (!skip_special_ || token.id >= tokenizer_->vocab_size() ||
        !tokenizer_->is_special(token.id)) {
      offset_ += characters_begun(bytes_of(token.id, *tokenizer_));
    }
    values.push_back(null ? OrderedJson() : OrderedJson(finite(token.logprob)));
    if (null || top_ == 0) {
      tops.push_back(nullptr);
      continue;
    }
    OrderedJson alternatives = OrderedJson::object();
    for (size_t j = 0; j < shown_alternatives(token, top_);
         ++j) {  // of two ids with one text the better one stays
      alternatives.emplace(token_text(token.top[j].first, *tokenizer_),
                           finite(token.top[j].second));
    }
    alternatives.emplace(token_text(token.id, *tokenizer_), finite(token.logprob));
    tops.push_back(std::move(alternatives));
  }
  return {{"tokens", std::move(tokens)},
          {"token_logprobs", std::move(values)},
          {"top_logprobs", std::move(tops)},
          {"text_offset", std::move(offsets)}};
}

OrderedJson generate_logprobs(std::span<const TokenLogprob> logprobs, bool with_text,
                              bool first_is_null, const Tokenizer& tokenizer) {
  OrderedJson out = OrderedJson::array();
  for (const TokenLogprob& token : logprobs) {
    out.push_back(generate_entry(token.id, token.logprob, with_text, tokenizer));
    if (first_is_null && out.size() == 1) out[0][0] = nullptr;
  }
  return out;
}

OrderedJson generate_top_logprobs(std::span<const TokenLogprob> logprobs, int top, bool with_text,
                                  const Tokenizer& tokenizer) {
  OrderedJson out = OrderedJson::array();
  for (const TokenLogprob& token : logprobs) {
    OrderedJson list = OrderedJson::array();
    for (size_t i = 0; i < shown_alternatives(token, top); ++i) {
      list.push_back(generate_entry(token.top[i].first, token.top[i].second, with_text, tokenizer));
    }
    out.push_back(list.empty() ? OrderedJson() : std::move(list));
  }
  return out;
}

}  // namespace erne::server
