// Stripping, searching and splitting strings.
#include <algorithm>

#include "chat/jinja/arguments.h"
#include "chat/jinja/text_methods.h"
#include "chat/jinja/unicode.h"

namespace erne::jinja {
namespace {

// The part of `text` that the optional arguments start and end leave, as byte offsets.
unicode::Span part_of(const MarkedText& text, const Bound& bound, size_t start_argument) {
  const auto length = static_cast<int64_t>(utf8::length(text.bytes()));
  const auto offset = [&](size_t argument, int64_t otherwise) {
    const bool given = bound.given(argument) && !bound.get(argument)->is_none();
    int64_t at = given ? bound.integer(argument, 0) : otherwise;
    if (at < 0) at = std::max<int64_t>(at + length, 0);
    return unicode::offset_of(text.bytes(), static_cast<size_t>(std::min(at, length)));
  };
  return {offset(start_argument, 0), offset(start_argument + 1, length)};
}

std::vector<Value> split_words(const MarkedText& text, int64_t limit) {
  std::vector<Value> parts;
  const std::string& bytes = text.bytes();
  size_t at = unicode::strip(bytes, true, false).begin;
  while (at < bytes.size()) {
    if (limit >= 0 && static_cast<int64_t>(parts.size()) == limit) {
      parts.emplace_back(text.slice(at, text.size()));
      return parts;
    }
    size_t end = at;
    while (end < bytes.size()) {
      const utf8::Decoded c = utf8::decode(bytes, end);
      if (unicode::is_space(c.codepoint)) break;
      end += static_cast<size_t>(c.size);
    }
    parts.emplace_back(text.slice(at, end));
    at = end + unicode::strip(std::string_view(bytes).substr(end), true, false).begin;
  }
  return parts;
}

std::vector<Value> split_words_from_right(const MarkedText& text, int64_t limit) {
  std::vector<Value> parts;
  std::string_view rest = text.bytes();
  rest = rest.substr(0, unicode::strip(rest, false, true).end);
  while (!rest.empty()) {
    if (limit >= 0 && static_cast<int64_t>(parts.size()) == limit) {
      parts.emplace_back(text.slice(0, rest.size()));
      break;
    }
    size_t begin = 0;  // behind the last white space of `rest`
    for (size_t at = 0; at < rest.size();) {
      const utf8::Decoded c = utf8::decode(rest, at);
      at += static_cast<size_t>(c.size);
      if (unicode::is_space(c.codepoint)) begin = at;
    }
    parts.emplace_back(text.slice(begin, rest.size()));
    rest = rest.substr(0, unicode::strip(rest.substr(0, begin), false, true).end);
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<Value> split_at(const MarkedText& text, const std::string& separator, int64_t limit,
                            bool from_right) {
  std::vector<Value> parts;
  size_t begin = 0;
  size_t end = text.size();
  for (; limit != 0; --limit) {
    const std::string_view rest = std::string_view(text.bytes()).substr(begin, end - begin);
    const size_t found = from_right ? rest.rfind(separator) : rest.find(separator);
    if (found == std::string_view::npos) break;
    const size_t at = begin + found;
    if (from_right) {
      parts.emplace_back(text.slice(at + separator.size(), end));
      end = at;
    } else {
      parts.emplace_back(text.slice(begin, at));
      begin = at + separator.size();
    }
  }
  parts.emplace_back(text.slice(begin, end));
  if (from_right) std::reverse(parts.begin(), parts.end());
  return parts;
}

}  // namespace

Value strip_ends(Runtime& runtime, const Value& self, const Arguments& arguments, Side side) {
  const bool left = side != Side::kRight;
  const bool right = side != Side::kLeft;
  const Bound bound(runtime, "strip()", arguments, {"chars"});
  const MarkedText& text = *self.string();
  const bool spaces = !bound.given(0) || bound.get(0)->is_none();
  const unicode::Span span =
      spaces ? unicode::strip(text.bytes(), left, right)
             : unicode::strip(text.bytes(), bound.string(0).bytes(), left, right);
  runtime.charge(span.end - span.begin);
  return text.slice(span.begin, span.end);
}

Value has_affix(Runtime& runtime, const Value& self, const Arguments& arguments, Affix affix) {
  const bool prefix = affix == Affix::kPrefix;
  const Bound bound(runtime, prefix ? "startswith()" : "endswith()", arguments,
                    {"affix", "start", "end"}, 1);
  const unicode::Span part = part_of(*self.string(), bound, 1);
  if (part.begin > part.end) return false;
  const std::string_view text =
      std::string_view(self.string()->bytes()).substr(part.begin, part.end - part.begin);
  const auto matches = [&](const Value& value) {
    if (value.string() == nullptr)
      runtime.fail(fmt::format("a prefix or suffix must be a string, got {}", value.type_name()));
    return prefix ? text.starts_with(value.string()->bytes())
                  : text.ends_with(value.string()->bytes());
  };
  const List* several = bound.get(0)->list();
  if (several == nullptr) return matches(*bound.get(0));
  return std::any_of(several->items.begin(), several->items.end(), matches);
}

Value find(Runtime& runtime, const Value& self, const Arguments& arguments, From from,
           Missing missing) {
  const bool must = missing == Missing::kError;
  const Bound bound(runtime, must ? "index()" : "find()", arguments, {"sub", "start", "end"}, 1);
  const MarkedText& text = *self.string();
  runtime.search(text.size(), bound.string(0).size());
  const unicode::Span part = part_of(text, bound, 1);
  size_t at = std::string_view::npos;
  if (part.begin <= part.end) {
    const std::string_view inside =
        std::string_view(text.bytes()).substr(part.begin, part.end - part.begin);
    at = from == From::kRight ? inside.rfind(bound.string(0).bytes())
                              : inside.find(bound.string(0).bytes());
  }
  if (at != std::string_view::npos) {
    return static_cast<int64_t>(
        utf8::length(std::string_view(text.bytes()).substr(0, part.begin + at)));
  }
  if (must) runtime.fail("substring not found");
  return int64_t{-1};
}

Value count(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound(runtime, "count()", arguments, {"sub", "start", "end"}, 1);
  const unicode::Span part = part_of(*self.string(), bound, 1);
  if (part.begin > part.end) return int64_t{0};
  const std::string_view text =
      std::string_view(self.string()->bytes()).substr(part.begin, part.end - part.begin);
  const std::string& sub = bound.string(0).bytes();
  runtime.search(text.size(), sub.size());
  if (sub.empty()) return static_cast<int64_t>(utf8::length(text)) + 1;
  int64_t found = 0;
  for (size_t at = 0; (at = text.find(sub, at)) != std::string_view::npos; at += sub.size())
    ++found;
  return found;
}

Value remove_affix(Runtime& runtime, const Value& self, const Arguments& arguments, Affix affix) {
  const bool prefix = affix == Affix::kPrefix;
  const Bound bound(runtime, prefix ? "removeprefix()" : "removesuffix()", arguments, {"affix"}, 1);
  const MarkedText& text = *self.string();
  const std::string& part = bound.string(0).bytes();
  if (prefix) return text.bytes().starts_with(part) ? text.slice(part.size(), text.size()) : text;
  return text.bytes().ends_with(part) ? text.slice(0, text.size() - part.size()) : text;
}

Value split(Runtime& runtime, const Value& self, const Arguments& arguments, From from) {
  const bool from_right = from == From::kRight;
  const Bound bound(runtime, "split()", arguments, {"sep", "maxsplit"});
  const MarkedText& text = *self.string();
  const int64_t limit = bound.integer(1, -1);
  runtime.charge(text.size());
  std::vector<Value> parts;
  if (!bound.given(0) || bound.get(0)->is_none()) {
    // Looking for the last space from the left makes this quadratic; the budget counts it.
    if (from_right)
      runtime.step(static_cast<int64_t>(text.size()) *
                   (limit < 0 ? 8 : std::min<int64_t>(limit + 1, 64)));
    parts = from_right ? split_words_from_right(text, limit) : split_words(text, limit);
  } else {
    if (bound.string(0).empty()) runtime.fail("split() needs a separator that is not empty");
    runtime.search(text.size(), bound.string(0).size());
    parts = split_at(text, bound.string(0).bytes(), limit < 0 ? -1 : limit, from_right);
  }
  runtime.charge(parts.size() * sizeof(MarkedText));
  return make_list(runtime, std::move(parts));
}

Value partition(Runtime& runtime, const Value& self, const Arguments& arguments, From from) {
  const bool from_right = from == From::kRight;
  const Bound bound(runtime, "partition()", arguments, {"sep"}, 1);
  const MarkedText& text = *self.string();
  const MarkedText& separator = bound.string(0);
  if (separator.empty()) runtime.fail("partition() needs a separator that is not empty");
  runtime.search(text.size(), separator.size());
  runtime.charge(text.size());
  const size_t at =
      from_right ? text.bytes().rfind(separator.bytes()) : text.bytes().find(separator.bytes());
  std::vector<Value> parts;
  if (at != std::string::npos) {
    parts = {text.slice(0, at), separator, text.slice(at + separator.size(), text.size())};
  } else if (from_right) {
    parts = {MarkedText(), MarkedText(), text};
  } else {
    parts = {text, MarkedText(), MarkedText()};
  }
  return make_list(runtime, std::move(parts), ListKind::kTuple);
}

}  // namespace erne::jinja
