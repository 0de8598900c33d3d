// UTF-8: decoding, validation and the question that streaming asks: is this tail complete?
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace erne::utf8 {

inline constexpr uint32_t kReplacement = 0xFFFD;

struct Decoded {
  uint32_t codepoint;  ///< kReplacement when !valid
  int size;            ///< bytes consumed, at least 1 (1 when !valid)
  bool valid;
};

/// Decodes at `text[at]`; at < text.size(). Overlong forms, surrogates and values above U+10FFFF
/// are invalid.
Decoded decode(std::string_view text, size_t at);
void append(std::string& out, uint32_t codepoint);
bool valid(std::string_view text);
/// Number of trailing bytes (0 to 3) that could still become a character when more bytes arrive.
size_t incomplete_tail(std::string_view text);
/// Every invalid byte replaced by U+FFFD (one per byte, as tokenizers' ByteFallback does).
std::string sanitize(std::string_view text);
/// Number of characters; invalid bytes count one each.
size_t length(std::string_view text);

}  // namespace erne::utf8
