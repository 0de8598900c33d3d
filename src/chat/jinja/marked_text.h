// Text that remembers which of its bytes came from a request. Every string value of the template
// engine is one, so that the finished prompt can say where user text lies, whatever the template
// did with it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/text_range.h"

namespace erne::jinja {

class MarkedText {
 public:
  MarkedText() = default;
  /// Trusted text: the template's own.
  explicit MarkedText(std::string_view bytes) : bytes_(bytes) {}
  static MarkedText untrusted(std::string_view bytes);

  const std::string& bytes() const { return bytes_; }
  size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  /// Ascending, disjoint, neither empty nor touching.
  const std::vector<ByteRange>& ranges() const { return ranges_; }
  bool any_untrusted() const { return !ranges_.empty(); }

  void reserve(size_t bytes) { bytes_.reserve(bytes); }
  void append(std::string_view trusted) { bytes_.append(trusted); }
  void append(const MarkedText& text);
  /// Bytes [begin, end) of `text`, with their marks.
  void append(const MarkedText& text, size_t begin, size_t end);
  void append(std::string_view bytes, bool untrusted);
  void append_codepoint(uint32_t codepoint, bool untrusted);
  MarkedText slice(size_t begin, size_t end) const;

  PromptText release() &&;

 private:
  void mark(size_t begin, size_t end);

  std::string bytes_;
  std::vector<ByteRange> ranges_;
};

/// Answers "did this byte come from the request?" for ascending positions, in constant time per
/// step.
class MarkCursor {
 public:
  explicit MarkCursor(const MarkedText& text) : ranges_(text.ranges()) {}
  bool untrusted(size_t at);

 private:
  const std::vector<ByteRange>& ranges_;
  size_t next_ = 0;
};

}  // namespace erne::jinja
