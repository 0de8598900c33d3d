#include "chat/jinja/marked_text.h"

#include <algorithm>
#include <utility>

#include "base/utf8.h"

namespace erne::jinja {

MarkedText MarkedText::untrusted(std::string_view bytes) {
  MarkedText text(bytes);
  text.mark(0, bytes.size());
  return text;
}

void MarkedText::mark(size_t begin, size_t end) {
  if (begin == end) return;
  if (!ranges_.empty() && ranges_.back().end == begin) {
    ranges_.back().end = end;
  } else {
    ranges_.push_back({begin, end});
  }
}

void MarkedText::append(const MarkedText& text) { append(text, 0, text.size()); }

void MarkedText::append(const MarkedText& text, size_t begin, size_t end) {
  const size_t base = bytes_.size();
  // Copies first: `text` may be *this.
  std::vector<ByteRange> copied;
  const auto first =
      std::lower_bound(text.ranges_.begin(), text.ranges_.end(), begin,
                       [](const ByteRange& range, size_t at) { return range.end <= at; });
  for (auto range = first; range != text.ranges_.end() && range->begin < end; ++range) {
    copied.push_back(
        {base + std::max(range->begin, begin) - begin, base + std::min(range->end, end) - begin});
  }
  bytes_.append(text.bytes_, begin, end - begin);
  for (const ByteRange& range : copied) mark(range.begin, range.end);
}

void MarkedText::append(std::string_view bytes, bool untrusted) {
  const size_t base = bytes_.size();
  bytes_.append(bytes);
  if (untrusted) mark(base, bytes_.size());
}

void MarkedText::append_codepoint(uint32_t codepoint, bool untrusted) {
  const size_t base = bytes_.size();
  utf8::append(bytes_, codepoint);
  if (untrusted) mark(base, bytes_.size());
}

MarkedText MarkedText::slice(size_t begin, size_t end) const {
  MarkedText part;
  part.append(*this, begin, end);
  return part;
}

PromptText MarkedText::release() && { return {std::move(bytes_), std::move(ranges_)}; }

bool MarkCursor::untrusted(size_t at) {
  while (next_ < ranges_.size() && ranges_[next_].end <= at) ++next_;
  return next_ < ranges_.size() && ranges_[next_].begin <= at;
}

}  // namespace erne::jinja
