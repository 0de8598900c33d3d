// GPT-2's word pattern by hand: about ten times as fast as the regular expression, which
// tests/token compares it to.
#include "base/utf8.h"
#include "token/char_class.h"
#include "token/pre_tokenizer.h"

namespace erne {

const char* const kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

namespace {

struct Char {
  uint8_t split_class;
  size_t size;
};

Char char_at(std::string_view text, size_t at) {
  const utf8::Decoded d = utf8::decode(text, at);
  const uint8_t bits = CharClasses::get().of(d.codepoint) & CharClasses::kSplitMask;
  return {bits, static_cast<size_t>(d.size)};
}

// Length of an English contraction at the beginning ("'s", "'ll"), 0 if none.
size_t contraction(std::string_view text) {
  if (text.size() < 2 || text[0] != '\'') return 0;
  const char c = text[1];
  if (c == 's' || c == 't' || c == 'm' || c == 'd') return 2;
  if (text.size() < 3) return 0;
  const char d = text[2];
  return (c == 'r' && d == 'e') || (c == 'v' && d == 'e') || (c == 'l' && d == 'l') ? 3 : 0;
}

}  // namespace

size_t gpt2_match(std::string_view text) {
  if (const size_t size = contraction(text)) return size;
  size_t at = 0;
  Char first = char_at(text, 0);
  if (text[0] == ' ' && text.size() > 1) {
    const Char second = char_at(text, 1);
    if (second.split_class != CharClasses::kSpace) {
      at = 1;
      first = second;
    }
  }
  size_t last_size = first.size;
  at += first.size;
  while (at < text.size()) {
    const Char next = char_at(text, at);
    if (next.split_class != first.split_class) break;
    at += next.size;
    last_size = next.size;
  }
  // White space before a word leaves its last character to the word: \s+(?!\S).
  const bool space = first.split_class == CharClasses::kSpace;
  if (space && at < text.size() && at > last_size) at -= last_size;
  return at;
}

}  // namespace erne
