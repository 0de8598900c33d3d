// Added tokens (special tokens, digits, LOC tokens): cut out of the text before BPE sees it,
// leftmost longest.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/text_range.h"

namespace erne {

/// One entry of "added_tokens"; the flags are Hugging Face's.
struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;
  bool normalized = false;   ///< matched in the normalized text, not in the text as given
  bool single_word = false;  ///< only where no word character touches it
  bool lstrip = false;       ///< takes the white space before it along
  bool rstrip = false;       ///< takes the white space after it along
};

/// Finds added tokens. A byte trie; the cost is linear in the text for tokens of bounded length.
class AddedTokenMatcher {
 public:
  struct Match {
    size_t begin;
    size_t end;
    int32_t id;
  };

  AddedTokenMatcher() : AddedTokenMatcher(std::vector<AddedToken>{}) {}
  /// Contents must not be empty.
  explicit AddedTokenMatcher(std::vector<AddedToken> tokens);
  bool empty() const { return tokens_.empty(); }
  bool has_special() const { return has_special_; }

  /// The first match that begins at or after `from`. A special token is not matched where it would
  /// touch a byte of `untrusted` (ascending, disjoint); a shorter or later token may match there
  /// instead.
  std::optional<Match> next(std::string_view text, size_t from,
                            std::span<const ByteRange> untrusted) const;

 private:
  struct Node {
    int32_t sibling = -1;
    int32_t child = -1;
    int32_t token = -1;  // index into tokens_
    char byte = 0;
  };
  int32_t child(int32_t node, char byte) const;
  void insert(std::string_view content, int32_t token);
  const AddedToken* longest(std::string_view text, size_t at,
                            std::span<const ByteRange> untrusted) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_;
  int32_t roots_[256];
  bool has_special_ = false;
};

}  // namespace erne
