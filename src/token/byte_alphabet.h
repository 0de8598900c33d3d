// The printable alphabet of byte-level BPE: every byte stands as one character, so that
// vocabularies are plain text. GPT-2's table (Radford et al. 2019): printable Latin-1 bytes are
// themselves, the other 68 follow from U+0100 on.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace erne {

/// byte -> code point.
const std::array<uint16_t, 256>& byte_alphabet();
/// Raw bytes -> text in the alphabet.
std::string to_byte_alphabet(std::string_view bytes);
/// Text in the alphabet -> raw bytes; nullopt if some character is outside the alphabet.
std::optional<std::string> from_byte_alphabet(std::string_view text);
/// The byte that a byte-fallback piece such as "<0x0A>" stands for.
std::optional<uint8_t> byte_piece(std::string_view name);

}  // namespace erne
