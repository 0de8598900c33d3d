#include "token/normalizer.h"

#include <algorithm>

namespace erne {
namespace {

// `mask` (null, or one char per byte of text: '1' for untrusted) follows the edit.
void run(const Normalizer::Replace& step, std::string& text, std::string* mask) {
  std::string out;
  std::string out_mask;
  out.reserve(text.size() + text.size() / 4);
  size_t from = 0;
  while (true) {
    const size_t at = text.find(step.pattern, from);
    const size_t kept = (at == std::string::npos ? text.size() : at) - from;
    out.append(text, from, kept);
    if (mask != nullptr) out_mask.append(*mask, from, kept);
    if (at == std::string::npos) break;
    out += step.content;
    from = at + step.pattern.size();
    if (mask != nullptr) {
      const bool untrusted = mask->substr(at, step.pattern.size()).find('1') != std::string::npos;
      out_mask.append(step.content.size(), untrusted ? '1' : '0');
    }
  }
  text = std::move(out);
  if (mask != nullptr) *mask = std::move(out_mask);
}

void run(const Normalizer::Prepend& step, std::string& text, std::string* mask) {
  if (text.empty()) return;
  text.insert(0, step.content);
  if (mask != nullptr) mask->insert(0, step.content.size(), '0');
}

}  // namespace

std::string Normalizer::apply(std::string_view text, std::string* mask) const {
  std::string out(text);
  for (const auto& any : steps_) {
    std::visit([&](const auto& step) { run(step, out, mask); }, any);
  }
  return out;
}

std::string Normalizer::apply(std::string_view text) const { return apply(text, nullptr); }

PromptText Normalizer::apply(std::string_view text, const std::vector<ByteRange>& untrusted) const {
  std::string mask(text.size(), '0');
  for (const ByteRange& range : untrusted)
    mask.replace(range.begin, range.end - range.begin, range.end - range.begin, '1');
  PromptText out;
  out.text = apply(text, &mask);
  for (size_t begin = mask.find('1'); begin != std::string::npos;) {
    const size_t end = std::min(mask.find('0', begin), mask.size());
    out.untrusted.push_back({begin, end});
    begin = mask.find('1', end);
  }
  return out;
}

}  // namespace erne
