#include "token/char_class.h"

#include <string>

#include "base/utf8.h"
#include "token/regex.h"

namespace erne {
namespace {

constexpr uint32_t kTableEnd =
    0x40000;  // letters, numbers and spaces lie below; beyond are tags and private use

// White_Space of the Unicode character database. Not PCRE2's \s, which adds U+180E.
constexpr bool white_space(uint32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

}  // namespace

CharClasses::CharClasses() : table_(kTableEnd, kOther) {
  std::string text;  // every code point of the table once, in order
  text.reserve(kTableEnd * 4);
  for (uint32_t c = 0; c < kTableEnd; ++c) {
    if (c < 0xD800 || c > 0xDFFF) utf8::append(text, c);
  }
  mark(text, "\\p{L}+", kLetter);
  mark(text, "\\p{N}+", kNumber);
  // A word character as the regex crate has it (Unicode TS 18, annex C); PCRE2's \w lacks marks and
  // has all of \p{N}.
  mark(text, "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]+", kWord);
  for (uint32_t c = 0; c < 0x3001; ++c) {
    if (white_space(c)) table_[c] |= kSpace;
  }
}

void CharClasses::mark(const std::string& text, const char* pattern, uint8_t bit) {
  const Regex regex(pattern);
  Regex::Matcher matcher(regex, text);
  size_t from = 0;
  while (const auto match = matcher.find(from)) {
    const uint32_t first = utf8::decode(text, match->begin).codepoint;
    const uint32_t last = utf8::decode(text, previous_char(text, match->end)).codepoint;
    for (uint32_t c = first; c <= last; ++c) table_[c] |= bit;
    from = match->end;
  }
}

const CharClasses& CharClasses::get() {
  static const CharClasses* const classes =
      new CharClasses();  // never freed: no destructor at exit
  return *classes;
}

size_t previous_char(std::string_view text, size_t end) {
  do {
    --end;
  } while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80);
  return end;
}

}  // namespace erne
