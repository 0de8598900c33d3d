// Filters that make text: case, joining, indenting, JSON.
#include <algorithm>
#include <array>

#include "base/utf8.h"
#include "chat/jinja/arguments.h"
#include "chat/jinja/filters.h"
#include "chat/jinja/methods.h"
#include "chat/jinja/operators.h"
#include "chat/jinja/unicode.h"

namespace erne::jinja {
namespace {

// Filters turn anything into text first.
MarkedText text_of(Runtime& runtime, const Value& input) { return to_text(runtime, input); }

Value trim(Runtime& runtime, const Value& input, const Arguments& arguments) {
  return call_method(runtime, text_of(runtime, input), "strip", arguments);
}

// A word begins behind these, unlike in str.title().
bool separates_words(uint32_t c) {
  return unicode::is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
}

Value title(Runtime& runtime, const Value& input, const Arguments&) {
  const MarkedText text = text_of(runtime, input);
  MarkCursor marks(text);
  MarkedText out;
  bool inside = false;
  for (size_t at = 0; at < text.size();) {
    const utf8::Decoded c = utf8::decode(text.bytes(), at);
    const bool mark = marks.untrusted(at);
    at += static_cast<size_t>(c.size);
    if (inside) {
      out.append_codepoint(unicode::to_lower(c.codepoint), mark);
    } else {
      unicode::append_upper(out, c.codepoint, mark);
    }
    inside = !separates_words(c.codepoint);
  }
  return out;
}

Value replace_filter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Bound bound(runtime, "replace", arguments, {"old", "new", "count"}, 2);
  const bool all = !bound.given(2) || bound.get(2)->is_none();
  return replace(runtime, text_of(runtime, input), bound.text(0, ""), bound.text(1, ""),
                 all ? -1 : bound.integer(2, -1));
}

Value join_filter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Bound bound(runtime, "join", arguments, {"d", "attribute"});
  const bool whole = !bound.given(1) || bound.get(1)->is_none();
  std::vector<MarkedText> parts;
  const auto source = iterate(runtime, input);
  for (const Value& item : source->items) {
    parts.push_back(text_of(runtime, whole ? item : get_path(runtime, item, *bound.get(1))));
  }
  return join(runtime, bound.text(0, ""), parts);
}

Value indent(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Bound bound(runtime, "indent", arguments, {"width", "first", "blank"});
  if (input.string() == nullptr)
    runtime.fail(fmt::format("indent needs a string, got {}", input.type_name()));
  MarkedText indention;
  if (bound.given(0) && bound.get(0)->string() != nullptr) {
    indention = bound.string(0);
  } else {
    const int64_t width = std::clamp<int64_t>(bound.integer(0, 4), 0, runtime.limits().range);
    indention = MarkedText(std::string(static_cast<size_t>(width), ' '));
  }
  MarkedText text = *input.string();
  text.append("\n");  // so that a final newline counts as the start of an empty line
  const std::vector<Value> lines = split_lines(runtime, text, false);
  const bool blank = bound.flag(2, false);
  MarkedText out;
  if (bound.flag(1, false)) out.append(indention);
  for (size_t i = 0; i < lines.size(); ++i) {
    const MarkedText& line = *lines[i].string();
    runtime.charge(line.size() + indention.size() + 1);
    if (i > 0) out.append("\n");
    if (i > 0 && (blank || !line.empty())) out.append(indention);
    out.append(line);
  }
  return out;
}

Value truncate(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Bound bound(runtime, "truncate", arguments, {"length", "killwords", "end", "leeway"});
  if (input.string() == nullptr)
    runtime.fail(fmt::format("truncate needs a string, got {}", input.type_name()));
  const MarkedText& text = *input.string();
  const MarkedText end = bound.text(2, "...");
  const int64_t length = bound.integer(0, 255);
  const auto end_length = static_cast<int64_t>(utf8::length(end.bytes()));
  const int64_t leeway = bound.integer(3, 5);
  if (length < end_length || leeway < 0)
    runtime.fail(fmt::format("truncate cannot cut to {} characters", length));
  if (static_cast<int64_t>(utf8::length(text.bytes())) - leeway <= length) return text;
  size_t cut = unicode::offset_of(text.bytes(), static_cast<size_t>(length - end_length));
  if (!bound.flag(1, false)) {
    const size_t space = std::string_view(text.bytes()).substr(0, cut).rfind(' ');
    if (space != std::string_view::npos) cut = space;
  }
  MarkedText out = text.slice(0, cut);
  out.append(end);
  return out;
}

Value word_count(Runtime& runtime, const Value& input, const Arguments&) {
  const MarkedText text = text_of(runtime, input);
  int64_t words = 0;
  bool inside = false;
  for (size_t at = 0; at < text.size();) {
    const utf8::Decoded c = utf8::decode(text.bytes(), at);
    at += static_cast<size_t>(c.size);
    const bool word =
        unicode::is_alpha(c.codepoint) || unicode::is_digit(c.codepoint) || c.codepoint == '_';
    if (word && !inside) ++words;
    inside = word;
  }
  return words;
}

Value escape(Runtime& runtime, const Value& input, const Arguments&) {
  MarkedText text = text_of(runtime, input);
  constexpr std::pair<std::string_view, std::string_view> kEntities[] = {
      {"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&#34;"}, {"'", "&#39;"}};
  for (const auto& [from, to] : kEntities) {
    // The entity of an untrusted character is untrusted: it is replaced byte by byte.
    MarkedText out;
    MarkCursor marks(text);
    for (size_t at = 0; at < text.size(); ++at) {
      const std::string_view byte = std::string_view(text.bytes()).substr(at, 1);
      out.append(byte == from ? to : byte, marks.untrusted(at));
    }
    runtime.charge(out.size());
    text = std::move(out);
  }
  return text;
}

Value json_filter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  constexpr int64_t kMaxIndent = 256;
  const Bound bound(runtime, "tojson", arguments,
                    {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ensure_ascii = bound.flag(0, false);
  style.sort_keys = bound.flag(3, false);
  if (bound.given(1) && !bound.get(1)->is_none()) {
    const bool text = bound.get(1)->string() != nullptr;
    if (!text && bound.integer(1, 0) > kMaxIndent)
      runtime.fail(fmt::format("tojson indents by at most {}", kMaxIndent));
    style.indent =
        text ? bound.string(1).bytes()
             : std::string(static_cast<size_t>(std::max<int64_t>(bound.integer(1, 0), 0)), ' ');
  }
  if (bound.given(2) && !bound.get(2)->is_none()) {
    const auto parts = iterate(runtime, *bound.get(2));
    const auto is_text = [](const Value& part) { return part.string() != nullptr; };
    if (parts->items.size() != 2 ||
        !std::all_of(parts->items.begin(), parts->items.end(), is_text)) {
      runtime.fail("tojson needs two strings as separators");
    }
    style.separators.emplace(*parts->items[0].string(), *parts->items[1].string());
  }
  return to_json(runtime, input, style);
}

Value format_filter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  if (arguments.named.empty()) {
    return printf_text(runtime, text_of(runtime, input),
                       make_list(runtime, arguments.positional, ListKind::kTuple));
  }
  if (!arguments.positional.empty())
    runtime.fail("format takes positional or named arguments, not both");
  auto dict = std::make_shared<Dict>();
  for (const auto& [name, value] : arguments.named)
    set_entry(runtime, *dict, Value::text(name), value);
  return printf_text(runtime, text_of(runtime, input),
                     std::shared_ptr<const Dict>(std::move(dict)));
}

Value center(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Bound bound(runtime, "center", arguments, {"width"});
  Arguments width;
  width.positional.emplace_back(bound.integer(0, 80));
  return call_method(runtime, text_of(runtime, input), "center", width);
}

Value attribute(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Bound bound(runtime, "attr", arguments, {"name"}, 1);
  // Unlike a dot, attr never looks into a mapping.
  if (input.dict() != nullptr && !has_method(input, bound.string(0).bytes())) {
    return Value::undefined(
        fmt::format("'dict object' has no attribute '{}'", bound.string(0).bytes()));
  }
  return get_attribute(runtime, input, bound.string(0).bytes());
}

constexpr auto kTextFilters = std::to_array<FilterEntry>({
    {"attr", attribute},
    {"capitalize",
     [](Runtime& rt, const Value& v, const Arguments&) -> Value {
       return capitalize(rt, text_of(rt, v));
     }},
    {"center", center},
    {"e", escape},
    {"escape", escape},
    {"format", format_filter},
    {"indent", indent},
    {"join", join_filter},
    {"lower",
     [](Runtime& rt, const Value& v, const Arguments&) -> Value {
       return lower(rt, text_of(rt, v));
     }},
    {"replace", replace_filter},
    {"safe", [](Runtime& rt, const Value& v, const Arguments&) -> Value { return text_of(rt, v); }},
    {"string",
     [](Runtime& rt, const Value& v, const Arguments&) -> Value { return text_of(rt, v); }},
    {"title", title},
    {"tojson", json_filter},
    {"trim", trim},
    {"truncate", truncate},
    {"upper",
     [](Runtime& rt, const Value& v, const Arguments&) -> Value {
       return upper(rt, text_of(rt, v));
     }},
    {"wordcount", word_count},
});

}  // namespace

Filter find_text_filter(std::string_view name) {
  for (const FilterEntry& entry : kTextFilters) {
    if (entry.name == name) return entry.filter;
  }
  return nullptr;
}

}  // namespace erne::jinja
