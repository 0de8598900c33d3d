// Byte ranges of a text; the chat renderer marks with them what came from a request, the tokenizer
// honours them.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace erne {

/// Bytes [begin, end).
struct ByteRange {
  size_t begin = 0;
  size_t end = 0;
  friend bool operator==(const ByteRange&, const ByteRange&) = default;
};

/// Text in which some bytes come from a user: no special token may touch those (spec serving.md 6).
struct PromptText {
  std::string text;
  std::vector<ByteRange> untrusted;  ///< ascending, disjoint, not empty
};

}  // namespace erne
