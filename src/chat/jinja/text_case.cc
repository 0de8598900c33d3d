// Case, padding, replacing and joining of strings.
#include "chat/jinja/arguments.h"
#include "chat/jinja/methods.h"
#include "chat/jinja/text_methods.h"
#include "chat/jinja/unicode.h"

namespace erne::jinja {

MarkedText swap_case(const MarkedText& text) {
  MarkedText out;
  for_each_char(text, [&](uint32_t c, bool mark) {
    if (unicode::is_lower(c)) {
      unicode::append_upper(out, c, mark);
    } else {
      out.append_codepoint(unicode::to_lower(c), mark);
    }
  });
  return out;
}

MarkedText title_case(const MarkedText& text) {
  MarkedText out;
  bool inside = false;
  for_each_char(text, [&](uint32_t c, bool mark) {
    if (inside) {
      out.append_codepoint(unicode::to_lower(c), mark);
    } else {
      unicode::append_upper(out, c, mark);
    }
    inside = unicode::is_alpha(c);
  });
  return out;
}

bool is_cased(const MarkedText& text, bool upper_case) {
  bool any = false;
  bool other = false;
  for_each_char(text, [&](uint32_t c, bool) {
    any |= upper_case ? unicode::is_upper(c) : unicode::is_lower(c);
    other |= upper_case ? unicode::is_lower(c) : unicode::is_upper(c);
  });
  return any && !other;
}

Value pad(Runtime& runtime, const Value& self, const Arguments& arguments, Align align) {
  const Bound bound(runtime, "padding", arguments, {"width", "fillchar"}, 1);
  const MarkedText& text = *self.string();
  const MarkedText fill = bound.text(1, " ");
  if (utf8::length(fill.bytes()) != 1) runtime.fail("the fill character must be one character");
  const auto length = static_cast<int64_t>(utf8::length(text.bytes()));
  const int64_t width = bound.integer(0, 0);
  if (width <= length) return text;
  const auto missing = static_cast<size_t>(width - length);
  runtime.charge(missing > static_cast<size_t>(runtime.limits().bytes) ? missing
                                                                       : missing * fill.size());
  size_t left = 0;
  if (align == Align::kRight) left = missing;
  // CPython puts the odd blank on the left only when the width is odd too.
  if (align == Align::kCenter) left = missing / 2 + (missing & static_cast<size_t>(width) & 1U);
  MarkedText out;
  for (size_t i = 0; i < left; ++i) out.append(fill);
  out.append(text);
  for (size_t i = left; i < missing; ++i) out.append(fill);
  return out;
}

Value zero_fill(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound(runtime, "zfill()", arguments, {"width"}, 1);
  const MarkedText& text = *self.string();
  const auto length = static_cast<int64_t>(utf8::length(text.bytes()));
  const int64_t missing = bound.integer(0, 0) - length;
  if (missing <= 0) return text;
  runtime.charge(static_cast<size_t>(missing));
  const size_t sign = text.bytes().starts_with('-') || text.bytes().starts_with('+') ? 1 : 0;
  MarkedText out = text.slice(0, sign);
  out.append(std::string(static_cast<size_t>(missing), '0'));
  out.append(text, sign, text.size());
  return out;
}

MarkedText replace(Runtime& runtime, const MarkedText& text, const MarkedText& from,
                   const MarkedText& to, int64_t limit) {
  runtime.search(text.size(), from.size());
  MarkedText out;
  size_t at = 0;
  size_t copied = 0;
  for (; limit != 0; --limit) {
    const size_t found = text.bytes().find(from.bytes(), at);
    if (found == std::string::npos) break;
    runtime.charge(found - copied + to.size());
    out.append(text, copied, found);
    out.append(to);
    copied = found + from.size();
    at = copied;
    if (from.empty()) {  // Python puts `to` between all characters and at both ends
      if (at >= text.size()) break;
      at += static_cast<size_t>(utf8::decode(text.bytes(), at).size);
    }
  }
  runtime.charge(text.size() - copied);
  out.append(text, copied, text.size());
  return out;
}

MarkedText join(Runtime& runtime, const MarkedText& separator,
                const std::vector<MarkedText>& parts) {
  MarkedText out;
  for (size_t i = 0; i < parts.size(); ++i) {
    runtime.charge(separator.size() + parts[i].size());
    if (i > 0) out.append(separator);
    out.append(parts[i]);
  }
  return out;
}

MarkedText upper(Runtime& runtime, const MarkedText& text) {
  runtime.charge(text.size());
  MarkedText out;
  for_each_char(text, [&](uint32_t c, bool mark) { unicode::append_upper(out, c, mark); });
  return out;
}

MarkedText lower(Runtime& runtime, const MarkedText& text) {
  runtime.charge(text.size());
  MarkedText out;
  for_each_char(text,
                [&](uint32_t c, bool mark) { out.append_codepoint(unicode::to_lower(c), mark); });
  return out;
}

MarkedText capitalize(Runtime& runtime, const MarkedText& text) {
  runtime.charge(text.size());
  MarkedText out;
  for_each_char(text, [&](uint32_t c, bool mark) {
    if (out.empty()) {
      unicode::append_upper(out, c, mark);
    } else {
      out.append_codepoint(unicode::to_lower(c), mark);
    }
  });
  return out;
}

std::vector<Value> split_lines(Runtime& runtime, const MarkedText& text, bool keep_ends) {
  runtime.charge(text.size());
  std::vector<Value> lines;
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const utf8::Decoded c = utf8::decode(text.bytes(), at);
    size_t after = at + static_cast<size_t>(c.size);
    if (unicode::is_line_break(c.codepoint)) {
      if (c.codepoint == '\r' && after < text.size() && text.bytes()[after] == '\n') ++after;
      runtime.charge(sizeof(MarkedText));
      lines.emplace_back(text.slice(begin, keep_ends ? after : at));
      begin = after;
    }
    at = after;
  }
  if (begin < text.size()) lines.emplace_back(text.slice(begin, text.size()));
  return lines;
}

}  // namespace erne::jinja
