// What the methods of strings are made of: the functions behind the table in methods.cc. Searching
// and splitting are in text_search.cc, case and padding in text_case.cc. `self` is a string in all
// of them.
#pragma once

#include <cstdint>

#include "base/utf8.h"
#include "chat/jinja/marked_text.h"
#include "chat/jinja/value.h"

namespace erne::jinja {

// Calls visit(codepoint, untrusted) for every character.
template <typename Visit>
void for_each_char(const MarkedText& text, Visit&& visit) {
  MarkCursor marks(text);
  for (size_t at = 0; at < text.size();) {
    const utf8::Decoded c = utf8::decode(text.bytes(), at);
    visit(c.codepoint, marks.untrusted(at));
    at += static_cast<size_t>(c.size);
  }
}

template <typename Test>
bool all_chars(const MarkedText& text, Test&& test) {
  bool all = !text.empty();
  for_each_char(text, [&](uint32_t c, bool) { all = all && test(c); });
  return all;
}

enum class Side { kLeft, kRight, kBoth };
enum class Align { kLeft, kRight, kCenter };
enum class Affix { kPrefix, kSuffix };
/// Whether a search or split begins at the left or the right end.
enum class From { kLeft, kRight };
/// What a failed search does: find() gives -1, index() fails.
enum class Missing { kMinusOne, kError };

Value strip_ends(Runtime& runtime, const Value& self, const Arguments& arguments, Side side);
Value has_affix(Runtime& runtime, const Value& self, const Arguments& arguments, Affix affix);
Value remove_affix(Runtime& runtime, const Value& self, const Arguments& arguments, Affix affix);
Value find(Runtime& runtime, const Value& self, const Arguments& arguments, From from,
           Missing missing);
Value count(Runtime& runtime, const Value& self, const Arguments& arguments);
Value split(Runtime& runtime, const Value& self, const Arguments& arguments, From from);
Value partition(Runtime& runtime, const Value& self, const Arguments& arguments, From from);

MarkedText swap_case(const MarkedText& text);
/// str.title(): a word begins behind every character that is not a letter.
MarkedText title_case(const MarkedText& text);
/// At least one cased character, and none of the other case.
bool is_cased(const MarkedText& text, bool upper_case);
Value pad(Runtime& runtime, const Value& self, const Arguments& arguments, Align align);
Value zero_fill(Runtime& runtime, const Value& self, const Arguments& arguments);

}  // namespace erne::jinja
