#include "chat/jinja/unicode.h"

#include <clocale>
#include <cwctype>

#include "base/utf8.h"

namespace erne::jinja::unicode {
namespace {

// The C library's Unicode tables, independent of the process's locale. Never freed: lives as long
// as the process.
locale_t unicode_locale() {
  static const locale_t locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
  return locale;
}

bool ascii(uint32_t c) { return c < 0x80; }

bool wide_class(uint32_t c, int (*test)(wint_t, locale_t)) {
  return unicode_locale() != nullptr && test(static_cast<wint_t>(c), unicode_locale()) != 0;
}

struct Range {
  uint32_t first;
  uint32_t last;
};

// Categories Cc, Cf, Zs, Zl, Zp, Co of the Basic Multilingual Plane, the ones that text from the
// web contains.
constexpr Range kUnprintable[] = {
    {0x7F, 0xA0},     {0xAD, 0xAD},       {0x600, 0x605},   {0x61C, 0x61C},   {0x6DD, 0x6DD},
    {0x70F, 0x70F},   {0x1680, 0x1680},   {0x180E, 0x180E}, {0x2000, 0x200F}, {0x2028, 0x202F},
    {0x205F, 0x206F}, {0x3000, 0x3000},   {0xD800, 0xF8FF}, {0xFEFF, 0xFEFF}, {0xFFF0, 0xFFFB},
    {0xFFFE, 0xFFFF}, {0xE0000, 0x10FFFF}};

size_t previous(std::string_view text, size_t at) {
  do {
    --at;
  } while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80);
  return at;
}

template <typename Test>
Span strip_if(std::string_view text, bool left, bool right, Test&& test) {
  Span span{0, text.size()};
  while (left && span.begin < span.end) {
    const utf8::Decoded c = utf8::decode(text, span.begin);
    if (!test(c.codepoint)) break;
    span.begin += static_cast<size_t>(c.size);
  }
  while (right && span.end > span.begin) {
    const size_t at = previous(text, span.end);
    if (!test(utf8::decode(text, at).codepoint)) break;
    span.end = at;
  }
  return span;
}

}  // namespace

bool is_space(uint32_t c) {
  if (ascii(c)) return (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x20);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_line_break(uint32_t c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
         c == 0x2029;
}

bool is_printable(uint32_t c) {
  if (ascii(c)) return c >= 0x20 && c != 0x7F;
  for (const Range& range : kUnprintable) {
    if (c >= range.first && c <= range.last) return false;
  }
  return true;
}

bool is_alpha(uint32_t c) {
  if (ascii(c)) return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
  return wide_class(c, iswalpha_l);
}

bool is_digit(uint32_t c) {
  if (ascii(c)) return c >= '0' && c <= '9';
  return c == 0xB2 || c == 0xB3 || c == 0xB9 || (c >= 0x660 && c <= 0x669) ||
         (c >= 0x966 && c <= 0x96F) || (c >= 0xFF10 && c <= 0xFF19);
}

bool is_upper(uint32_t c) {
  if (ascii(c)) return c >= 'A' && c <= 'Z';
  return wide_class(c, iswupper_l);
}

bool is_lower(uint32_t c) {
  if (ascii(c)) return c >= 'a' && c <= 'z';
  return wide_class(c, iswlower_l);
}

uint32_t to_lower(uint32_t c) {
  if (ascii(c)) return is_upper(c) ? c + 32 : c;
  if (unicode_locale() == nullptr) return c;
  return static_cast<uint32_t>(towlower_l(static_cast<wint_t>(c), unicode_locale()));
}

void append_upper(MarkedText& out, uint32_t c, bool untrusted) {
  constexpr uint32_t kSharpS = 0xDF;
  if (ascii(c)) {
    out.append_codepoint(is_lower(c) ? c - 32 : c, untrusted);
  } else if (c == kSharpS) {
    out.append("SS", untrusted);
  } else if (unicode_locale() == nullptr) {
    out.append_codepoint(c, untrusted);
  } else {
    out.append_codepoint(
        static_cast<uint32_t>(towupper_l(static_cast<wint_t>(c), unicode_locale())), untrusted);
  }
}

Span strip(std::string_view text, bool left, bool right) {
  return strip_if(text, left, right, is_space);
}

Span strip(std::string_view text, std::string_view chars, bool left, bool right) {
  return strip_if(text, left, right, [&](uint32_t c) {
    std::string one;
    utf8::append(one, c);
    return chars.find(one) != std::string_view::npos;
  });
}

size_t offset_of(std::string_view text, size_t at) {
  size_t offset = 0;
  for (; at > 0 && offset < text.size(); --at)
    offset += static_cast<size_t>(utf8::decode(text, offset).size);
  return offset;
}

}  // namespace erne::jinja::unicode
