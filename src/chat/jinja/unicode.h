// The parts of Python's str that need to know characters: white space, case, printability.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "chat/jinja/marked_text.h"

namespace erne::jinja::unicode {

/// str.isspace of one character; what strip() removes.
bool is_space(uint32_t c);
/// Where str.splitlines splits ("\r\n" counts once, which the caller sees to).
bool is_line_break(uint32_t c);
/// Whether repr() shows the character itself.
bool is_printable(uint32_t c);
bool is_alpha(uint32_t c);
bool is_digit(uint32_t c);
bool is_upper(uint32_t c);
bool is_lower(uint32_t c);
uint32_t to_lower(uint32_t c);
/// Appends the upper case, which may be longer ("ß" gives "SS").
void append_upper(MarkedText& out, uint32_t c, bool untrusted);

/// Byte range left when white space is removed from the ends that are asked for.
struct Span {
  size_t begin;
  size_t end;
};
Span strip(std::string_view text, bool left, bool right);
/// As strip(), but of the characters in `chars`.
Span strip(std::string_view text, std::string_view chars, bool left, bool right);

/// Byte offset of the character at index `at` (at most the length) in `text`.
size_t offset_of(std::string_view text, size_t at);

}  // namespace erne::jinja::unicode
