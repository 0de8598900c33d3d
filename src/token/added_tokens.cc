#include "token/added_tokens.h"

#include <algorithm>

#include "base/utf8.h"
#include "token/char_class.h"

namespace erne {
namespace {

bool touches(std::span<const ByteRange> ranges, size_t begin, size_t end) {
  const auto after =
      std::upper_bound(ranges.begin(), ranges.end(), begin,
                       [](size_t at, const ByteRange& range) { return at < range.end; });
  return after != ranges.end() && after->begin < end;
}

uint8_t class_at(std::string_view text, size_t at) {
  return CharClasses::get().of(utf8::decode(text, at).codepoint);
}

bool stands_alone(std::string_view text, size_t begin, size_t end) {
  if (begin > 0 && (class_at(text, previous_char(text, begin)) & CharClasses::kWord) != 0)
    return false;
  return end == text.size() || (class_at(text, end) & CharClasses::kWord) == 0;
}

size_t before_spaces(std::string_view text, size_t begin, size_t limit) {
  while (begin > limit) {
    const size_t previous = previous_char(text, begin);
    if (previous < limit || (class_at(text, previous) & CharClasses::kSpace) == 0) break;
    begin = previous;
  }
  return begin;
}

size_t after_spaces(std::string_view text, size_t end) {
  while (end < text.size() && (class_at(text, end) & CharClasses::kSpace) != 0) {
    end += static_cast<size_t>(utf8::decode(text, end).size);
  }
  return end;
}

}  // namespace

AddedTokenMatcher::AddedTokenMatcher(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  std::fill(std::begin(roots_), std::end(roots_), -1);
  for (size_t i = 0; i < tokens_.size(); ++i) {
    insert(tokens_[i].content, static_cast<int32_t>(i));
    has_special_ = has_special_ || tokens_[i].special;
  }
}

int32_t AddedTokenMatcher::child(int32_t node, char byte) const {
  int32_t at = nodes_[static_cast<size_t>(node)].child;
  while (at >= 0 && nodes_[static_cast<size_t>(at)].byte != byte)
    at = nodes_[static_cast<size_t>(at)].sibling;
  return at;
}

void AddedTokenMatcher::insert(std::string_view content, int32_t token) {
  int32_t node = -1;
  for (const char byte : content) {
    int32_t& root = roots_[static_cast<unsigned char>(byte)];
    int32_t next = node < 0 ? root : child(node, byte);
    if (next < 0) {
      next = static_cast<int32_t>(nodes_.size());
      nodes_.push_back({.byte = byte});
      if (node < 0) {
        root = next;
      } else {
        Node& parent = nodes_[static_cast<size_t>(node)];
        nodes_.back().sibling = parent.child;
        parent.child = next;
      }
    }
    node = next;
  }
  nodes_[static_cast<size_t>(node)].token = token;
}

const AddedToken* AddedTokenMatcher::longest(std::string_view text, size_t at,
                                             std::span<const ByteRange> untrusted) const {
  const AddedToken* found = nullptr;
  int32_t node = roots_[static_cast<unsigned char>(text[at])];
  for (size_t end = at + 1; node >= 0; ++end) {
    const int32_t index = nodes_[static_cast<size_t>(node)].token;
    if (index >= 0) {
      const AddedToken& token = tokens_[static_cast<size_t>(index)];
      if (!token.special || !touches(untrusted, at, end)) found = &token;
    }
    node = end < text.size() ? child(node, text[end]) : -1;
  }
  return found;
}

std::optional<AddedTokenMatcher::Match> AddedTokenMatcher::next(
    std::string_view text, size_t from, std::span<const ByteRange> untrusted) const {
  if (empty()) return std::nullopt;
  for (size_t at = from; at < text.size();) {
    const AddedToken* token = longest(text, at, untrusted);
    if (token == nullptr) {
      ++at;
      continue;
    }
    size_t begin = at;
    size_t end = at + token->content.size();
    if (token->single_word && !stands_alone(text, begin, end)) {
      at = end;
      continue;
    }
    if (token->lstrip) begin = before_spaces(text, begin, from);
    if (token->rstrip) end = after_spaces(text, end);
    return Match{begin, end, token->id};
  }
  return std::nullopt;
}

}  // namespace erne
