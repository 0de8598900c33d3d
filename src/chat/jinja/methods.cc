#include "chat/jinja/methods.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/utf8.h"
#include "chat/jinja/arguments.h"
#include "chat/jinja/objects.h"
#include "chat/jinja/unicode.h"

namespace erne::jinja {
namespace {

using Method = Value (*)(Runtime&, const Value& self, const Arguments&);
struct MethodEntry {
  std::string_view name;
  Method method;
};

// Calls visit(codepoint, untrusted) for every character.
template <typename Visit>
void for_each_char(const MarkedText& text, Visit&& visit) {
  MarkCursor marks(text);
  for (size_t at = 0; at < text.size();) {
    const utf8::Decoded c = utf8::decode(text.bytes(), at);
    visit(c.codepoint, marks.untrusted(at));
    at += static_cast<size_t>(c.size);
  }
}

template <typename Test>
bool all_chars(const MarkedText& text, Test&& test) {
  bool all = !text.empty();
  for_each_char(text, [&](uint32_t c, bool) { all = all && test(c); });
  return all;
}

// ---- Stripping and searching

Value strip_ends(Runtime& runtime, const Value& self, const Arguments& arguments, bool left,
                 bool right) {
  const Bound bound(runtime, "strip()", arguments, {"chars"});
  const MarkedText& text = *self.string();
  const bool spaces = !bound.given(0) || bound.get(0)->is_none();
  const unicode::Span span =
      spaces ? unicode::strip(text.bytes(), left, right)
             : unicode::strip(text.bytes(), bound.string(0).bytes(), left, right);
  runtime.charge(span.end - span.begin);
  return text.slice(span.begin, span.end);
}

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

Value affix(Runtime& runtime, const Value& self, const Arguments& arguments, bool prefix) {
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

Value find(Runtime& runtime, const Value& self, const Arguments& arguments, bool last, bool must) {
  const Bound bound(runtime, must ? "index()" : "find()", arguments, {"sub", "start", "end"}, 1);
  const MarkedText& text = *self.string();
  const unicode::Span part = part_of(text, bound, 1);
  size_t at = std::string_view::npos;
  if (part.begin <= part.end) {
    const std::string_view inside =
        std::string_view(text.bytes()).substr(part.begin, part.end - part.begin);
    at = last ? inside.rfind(bound.string(0).bytes()) : inside.find(bound.string(0).bytes());
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
  if (sub.empty()) return static_cast<int64_t>(utf8::length(text)) + 1;
  int64_t found = 0;
  for (size_t at = 0; (at = text.find(sub, at)) != std::string_view::npos; at += sub.size())
    ++found;
  return found;
}

// ---- Splitting

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

Value split(Runtime& runtime, const Value& self, const Arguments& arguments, bool from_right) {
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
    parts = split_at(text, bound.string(0).bytes(), limit < 0 ? -1 : limit, from_right);
  }
  runtime.charge(parts.size() * sizeof(MarkedText));
  return make_list(runtime, std::move(parts));
}

Value partition(Runtime& runtime, const Value& self, const Arguments& arguments, bool from_right) {
  const Bound bound(runtime, "partition()", arguments, {"sep"}, 1);
  const MarkedText& text = *self.string();
  const MarkedText& separator = bound.string(0);
  if (separator.empty()) runtime.fail("partition() needs a separator that is not empty");
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

// ---- Case and padding

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

// Upper (or lower) case: at least one cased character and none of the other case.
bool is_cased(const MarkedText& text, bool upper_case) {
  bool any = false;
  bool other = false;
  for_each_char(text, [&](uint32_t c, bool) {
    any |= upper_case ? unicode::is_upper(c) : unicode::is_lower(c);
    other |= upper_case ? unicode::is_lower(c) : unicode::is_upper(c);
  });
  return any && !other;
}

enum class Align { kLeft, kRight, kCenter };

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

Value remove_affix(Runtime& runtime, const Value& self, const Arguments& arguments, bool prefix) {
  const Bound bound(runtime, prefix ? "removeprefix()" : "removesuffix()", arguments, {"affix"}, 1);
  const MarkedText& text = *self.string();
  const std::string& part = bound.string(0).bytes();
  if (prefix) return text.bytes().starts_with(part) ? text.slice(part.size(), text.size()) : text;
  return text.bytes().ends_with(part) ? text.slice(0, text.size() - part.size()) : text;
}

Value replace_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound(runtime, "replace()", arguments, {"old", "new", "count"}, 2);
  return replace(runtime, *self.string(), bound.string(0), bound.string(1), bound.integer(2, -1));
}

Value join_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound(runtime, "join()", arguments, {"iterable"}, 1);
  std::vector<MarkedText> parts;
  const auto items = iterate(runtime, *bound.get(0));
  for (const Value& item : items->items) {
    if (item.string() == nullptr)
      runtime.fail(fmt::format("join() needs strings, got {}", item.type_name()));
    parts.push_back(*item.string());
  }
  return join(runtime, *self.string(), parts);
}

template <bool (*kTest)(uint32_t)>
Value all_method(Runtime&, const Value& self, const Arguments&) {
  return all_chars(*self.string(), kTest);
}

bool is_alnum(uint32_t c) { return unicode::is_alpha(c) || unicode::is_digit(c); }

constexpr auto kStringMethods = std::to_array<MethodEntry>({
    {"capitalize", [](Runtime& rt, const Value& s, const Arguments&) -> Value { return capitalize(rt, *s.string()); }},
    {"casefold", [](Runtime& rt, const Value& s, const Arguments&) -> Value { return lower(rt, *s.string()); }},
    {"center", [](Runtime& rt, const Value& s, const Arguments& a) { return pad(rt, s, a, Align::kCenter); }},
    {"count", count},
    {"endswith", [](Runtime& rt, const Value& s, const Arguments& a) { return affix(rt, s, a, false); }},
    {"find", [](Runtime& rt, const Value& s, const Arguments& a) { return find(rt, s, a, false, false); }},
    {"format", [](Runtime& rt, const Value& s, const Arguments& a) -> Value { return format_text(rt, *s.string(), a); }},
    {"index", [](Runtime& rt, const Value& s, const Arguments& a) { return find(rt, s, a, false, true); }},
    {"isalnum", all_method<is_alnum>},
    {"isalpha", all_method<unicode::is_alpha>},
    {"isdecimal", all_method<unicode::is_digit>},
    {"isdigit", all_method<unicode::is_digit>},
    {"islower", [](Runtime&, const Value& s, const Arguments&) -> Value { return is_cased(*s.string(), false); }},
    {"isnumeric", all_method<unicode::is_digit>},
    {"isspace", all_method<unicode::is_space>},
    {"isupper", [](Runtime&, const Value& s, const Arguments&) -> Value { return is_cased(*s.string(), true); }},
    {"join", join_method},
    {"ljust", [](Runtime& rt, const Value& s, const Arguments& a) { return pad(rt, s, a, Align::kLeft); }},
    {"lower", [](Runtime& rt, const Value& s, const Arguments&) -> Value { return lower(rt, *s.string()); }},
    {"lstrip", [](Runtime& rt, const Value& s, const Arguments& a) { return strip_ends(rt, s, a, true, false); }},
    {"partition", [](Runtime& rt, const Value& s, const Arguments& a) { return partition(rt, s, a, false); }},
    {"removeprefix", [](Runtime& rt, const Value& s, const Arguments& a) { return remove_affix(rt, s, a, true); }},
    {"removesuffix", [](Runtime& rt, const Value& s, const Arguments& a) { return remove_affix(rt, s, a, false); }},
    {"replace", replace_method},
    {"rfind", [](Runtime& rt, const Value& s, const Arguments& a) { return find(rt, s, a, true, false); }},
    {"rindex", [](Runtime& rt, const Value& s, const Arguments& a) { return find(rt, s, a, true, true); }},
    {"rjust", [](Runtime& rt, const Value& s, const Arguments& a) { return pad(rt, s, a, Align::kRight); }},
    {"rpartition", [](Runtime& rt, const Value& s, const Arguments& a) { return partition(rt, s, a, true); }},
    {"rsplit", [](Runtime& rt, const Value& s, const Arguments& a) { return split(rt, s, a, true); }},
    {"rstrip", [](Runtime& rt, const Value& s, const Arguments& a) { return strip_ends(rt, s, a, false, true); }},
    {"split", [](Runtime& rt, const Value& s, const Arguments& a) { return split(rt, s, a, false); }},
    {"splitlines",
     [](Runtime& rt, const Value& s, const Arguments& a) {
       const Bound bound(rt, "splitlines()", a, {"keepends"});
       return make_list(rt, split_lines(rt, *s.string(), bound.flag(0, false)));
     }},
    {"startswith", [](Runtime& rt, const Value& s, const Arguments& a) { return affix(rt, s, a, true); }},
    {"strip", [](Runtime& rt, const Value& s, const Arguments& a) { return strip_ends(rt, s, a, true, true); }},
    {"swapcase", [](Runtime&, const Value& s, const Arguments&) -> Value { return swap_case(*s.string()); }},
    {"title", [](Runtime&, const Value& s, const Arguments&) -> Value { return title_case(*s.string()); }},
    {"upper", [](Runtime& rt, const Value& s, const Arguments&) -> Value { return upper(rt, *s.string()); }},
    {"zfill", zero_fill},
});

// ---- Dictionaries and lists

enum class Part { kKeys, kValues, kItems };

Value dict_part(Runtime& runtime, const Value& self, Part part) {
  std::vector<Value> items;
  for (const auto& [key, value] : self.dict()->entries()) {
    runtime.step();
    items.push_back(part == Part::kKeys     ? key
                    : part == Part::kValues ? value
                                            : make_list(runtime, {key, value}, ListKind::kTuple));
  }
  return make_list(runtime, std::move(items), ListKind::kView);
}

Value dict_get(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound(runtime, "get()", arguments, {"key", "default"}, 1);
  const Value* found = self.dict()->find(*bound.get(0));
  return found != nullptr ? *found : bound.value(1, None{});
}

constexpr auto kDictMethods = std::to_array<MethodEntry>({
    {"copy", [](Runtime&, const Value& s, const Arguments&) { return s; }},
    {"get", dict_get},
    {"items",
     [](Runtime& rt, const Value& s, const Arguments&) { return dict_part(rt, s, Part::kItems); }},
    {"keys",
     [](Runtime& rt, const Value& s, const Arguments&) { return dict_part(rt, s, Part::kKeys); }},
    {"values",
     [](Runtime& rt, const Value& s, const Arguments&) { return dict_part(rt, s, Part::kValues); }},
});

Value list_count(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound(runtime, "count()", arguments, {"value"}, 1);
  int64_t found = 0;
  for (const Value& item : self.list()->items) found += equal(runtime, item, *bound.get(0)) ? 1 : 0;
  return found;
}

Value list_index(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound(runtime, "index()", arguments, {"value"}, 1);
  const auto& items = self.list()->items;
  for (size_t i = 0; i < items.size(); ++i) {
    if (equal(runtime, items[i], *bound.get(0))) return static_cast<int64_t>(i);
  }
  runtime.fail("the value is not in the list");
}

constexpr auto kListMethods = std::to_array<MethodEntry>({
    {"copy", [](Runtime&, const Value& s, const Arguments&) { return s; }},
    {"count", list_count},
    {"index", list_index},
});

template <size_t kSize>
Method find_in(const std::array<MethodEntry, kSize>& table, std::string_view name) {
  for (const MethodEntry& entry : table) {
    if (entry.name == name) return entry.method;
  }
  return nullptr;
}

// Methods that change their object, which templates may not, and those of Python that no template
// was seen to use.
Value refuse(Runtime& runtime, const Value& self, std::string_view name) {
  runtime.fail(Code::kUnsupported,
               fmt::format("method '{}' of a {} is not available in chat templates", name,
                           self.type_name()));
}

constexpr std::string_view kRefusedOfLists[] = {"append", "clear",  "extend",  "insert",
                                                "pop",    "remove", "reverse", "sort"};
constexpr std::string_view kRefusedOfDicts[] = {"clear",   "fromkeys",   "pop",
                                                "popitem", "setdefault", "update"};
constexpr std::string_view kRefusedOfStrings[] = {"encode",  "expandtabs",   "format_map",
                                                  "isascii", "isidentifier", "isprintable",
                                                  "istitle", "maketrans",    "translate"};

template <size_t kSize>
bool among(const std::string_view (&names)[kSize], std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

bool is_refused(const Value& object, std::string_view name) {
  if (object.string() != nullptr) return among(kRefusedOfStrings, name);
  if (object.dict() != nullptr) return among(kRefusedOfDicts, name);
  return object.list() != nullptr && object.list()->kind == ListKind::kList &&
         among(kRefusedOfLists, name);
}

Method find_method(const Value& object, std::string_view name) {
  if (object.string() != nullptr) return find_in(kStringMethods, name);
  if (object.dict() != nullptr) return find_in(kDictMethods, name);
  const List* list = object.list();
  if (list == nullptr || list->kind == ListKind::kView || list->kind == ListKind::kGenerator)
    return nullptr;
  return find_in(kListMethods, name);
}

}  // namespace

bool has_method(const Value& object, std::string_view name) {
  return find_method(object, name) != nullptr || is_refused(object, name);
}

Value call_method(Runtime& runtime, const Value& object, std::string_view name,
                  const Arguments& arguments) {
  const Method method = find_method(object, name);
  return method != nullptr ? method(runtime, object, arguments) : refuse(runtime, object, name);
}

Value make_method(Runtime& runtime, const Value& object, std::string_view name) {
  return Value(runtime.create<FunctionObject>(
      std::string(name),
      [object, bound = std::string(name)](Runtime& rt, const Arguments& arguments) {
        return call_method(rt, object, bound, arguments);
      }));
}

MarkedText replace(Runtime& runtime, const MarkedText& text, const MarkedText& from,
                   const MarkedText& to, int64_t limit) {
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
