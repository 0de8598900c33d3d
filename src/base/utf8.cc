#include "base/utf8.h"

namespace erne::utf8 {
namespace {

constexpr Decoded kInvalid{kReplacement, 1, false};

// Length announced by a lead byte, 0 for a byte that cannot lead.
int announced_length(unsigned char lead) {
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return 2;
  if (lead >= 0xE0 && lead <= 0xEF) return 3;
  if (lead >= 0xF0 && lead <= 0xF4) return 4;
  return 0;
}

// Range of the second byte that keeps out overlong forms, surrogates and values above U+10FFFF
// (Unicode table 3-7).
bool second_byte_ok(unsigned char lead, unsigned char second) {
  switch (lead) {
    case 0xE0:
      return second >= 0xA0 && second <= 0xBF;
    case 0xED:
      return second >= 0x80 && second <= 0x9F;
    case 0xF0:
      return second >= 0x90 && second <= 0xBF;
    case 0xF4:
      return second >= 0x80 && second <= 0x8F;
    default:
      return second >= 0x80 && second <= 0xBF;
  }
}

}  // namespace

Decoded decode(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(at);
  const int size = announced_length(lead);
  if (size == 1) return {lead, 1, true};
  if (size == 0 || at + static_cast<size_t>(size) > text.size()) return kInvalid;
  if (!second_byte_ok(lead, byte(at + 1))) return kInvalid;
  uint32_t codepoint = lead & (0xFFU >> (size + 1));
  for (int i = 1; i < size; ++i) {
    const unsigned char next = byte(at + static_cast<size_t>(i));
    if ((next & 0xC0) != 0x80) return kInvalid;
    codepoint = codepoint << 6 | (next & 0x3FU);
  }
  return {codepoint, size, true};
}

void append(std::string& out, uint32_t c) {
  const auto put = [&](uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | c >> 6);
    put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12);
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | c >> 18);
    put(0x80 | (c >> 12 & 0x3F));
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  }
}

bool valid(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const Decoded d = decode(text, i);
    if (!d.valid) return false;
    i += static_cast<size_t>(d.size);
  }
  return true;
}

size_t incomplete_tail(std::string_view text) {
  for (size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const auto lead = static_cast<unsigned char>(text[text.size() - back]);
    if ((lead & 0xC0) == 0x80) continue;
    const int size = announced_length(lead);
    if (size <= static_cast<int>(back)) return 0;
    const bool plausible =
        back == 1 || second_byte_ok(lead, static_cast<unsigned char>(text[text.size() - back + 1]));
    return plausible ? back : 0;
  }
  return 0;
}

std::string sanitize(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const Decoded d = decode(text, i);
    if (d.valid) {
      out.append(text.substr(i, static_cast<size_t>(d.size)));
    } else {
      append(out, kReplacement);
    }
    i += static_cast<size_t>(d.size);
  }
  return out;
}

size_t length(std::string_view text) {
  size_t count = 0;
  for (size_t i = 0; i < text.size(); ++count) i += static_cast<size_t>(decode(text, i).size);
  return count;
}

}  // namespace erne::utf8
