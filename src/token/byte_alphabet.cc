#include "token/byte_alphabet.h"

#include "base/utf8.h"

namespace erne {
namespace {

constexpr bool printable(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr std::array<uint16_t, 256> make_alphabet() {
  std::array<uint16_t, 256> table{};
  uint16_t next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    table[static_cast<size_t>(byte)] = printable(byte) ? static_cast<uint16_t>(byte) : next++;
  }
  return table;
}

// The largest code point of the alphabet is U+0143.
constexpr std::array<int16_t, 0x144> make_inverse() {
  std::array<int16_t, 0x144> table{};
  for (auto& entry : table) entry = -1;
  const auto alphabet = make_alphabet();
  for (size_t byte = 0; byte < 256; ++byte) table[alphabet[byte]] = static_cast<int16_t>(byte);
  return table;
}

constexpr std::array<uint16_t, 256> kAlphabet = make_alphabet();
constexpr std::array<int16_t, 0x144> kInverse = make_inverse();

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

}  // namespace

const std::array<uint16_t, 256>& byte_alphabet() { return kAlphabet; }

std::string to_byte_alphabet(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const char c : bytes) utf8::append(out, kAlphabet[static_cast<unsigned char>(c)]);
  return out;
}

std::optional<std::string> from_byte_alphabet(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const utf8::Decoded d = utf8::decode(text, i);
    if (!d.valid || d.codepoint >= kInverse.size() || kInverse[d.codepoint] < 0)
      return std::nullopt;
    out.push_back(static_cast<char>(kInverse[d.codepoint]));
    i += static_cast<size_t>(d.size);
  }
  return out;
}

std::optional<uint8_t> byte_piece(std::string_view name) {
  if (name.size() != 6 || !name.starts_with("<0x") || name[5] != '>') return std::nullopt;
  const int high = hex_digit(name[3]);
  const int low = hex_digit(name[4]);
  if (high < 0 || low < 0) return std::nullopt;
  return static_cast<uint8_t>(high << 4 | low);
}

}  // namespace erne
