// Unicode classes that pre-tokenizers ask for: letter, number, white space, word character.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace erne {

/// One table for the process, built from PCRE2's Unicode data at first use (about 5 ms).
class CharClasses {
 public:
  enum Class : uint8_t { kOther = 0, kLetter = 1, kNumber = 2, kSpace = 4, kWord = 8 };
  static constexpr uint8_t kSplitMask = kLetter | kNumber | kSpace;

  static const CharClasses& get();
  /// Bits of Class.
  uint8_t of(uint32_t codepoint) const {
    return codepoint < table_.size() ? table_[codepoint] : uint8_t{kOther};
  }

 private:
  CharClasses();
  void mark(const std::string& text, const char* pattern, uint8_t bit);
  std::vector<uint8_t> table_;
};

/// The character that ends at `end` (> 0) begins here; `text` is valid UTF-8.
size_t previous_char(std::string_view text, size_t end);

}  // namespace erne
