// Rewriting of text before it is cut into tokens: the two normalizers of tokenizer.json that BPE
// checkpoints of this family use. Others (NFC, Lowercase, …) are refused by the reader.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/text_range.h"

namespace erne {

class Normalizer {
 public:
  /// Every occurrence of `pattern` (not empty), left to right, becomes `content`.
  struct Replace {
    std::string pattern;
    std::string content;
  };
  /// `content` in front of a text that is not empty.
  struct Prepend {
    std::string content;
  };

  void add(Replace step) { steps_.emplace_back(std::move(step)); }
  void add(Prepend step) { steps_.emplace_back(std::move(step)); }
  bool identity() const { return steps_.empty(); }

  std::string apply(std::string_view text) const;
  /// Also carries byte ranges over: a replacement that touches a range belongs to it whole.
  PromptText apply(std::string_view text, const std::vector<ByteRange>& untrusted) const;

 private:
  std::string apply(std::string_view text, std::string* mask) const;
  std::vector<std::variant<Replace, Prepend>> steps_;
};

}  // namespace erne
