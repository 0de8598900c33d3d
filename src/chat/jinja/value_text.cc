// Values as text: str(), repr() and json.dumps(), and JSON into values.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/json.h"
#include "base/utf8.h"
#include "chat/jinja/unicode.h"
#include "chat/jinja/value.h"

namespace erne::jinja {
namespace {

void append_repr(Runtime& runtime, const MarkedText& text, MarkedText& out) {
  const bool single = text.bytes().find('\'') != std::string::npos;
  const bool both = single && text.bytes().find('"') != std::string::npos;
  const char quote = single && !both ? '"' : '\'';
  runtime.charge(text.size());
  MarkCursor marks(text);
  out.append(std::string_view(&quote, 1));
  for (size_t at = 0; at < text.size();) {
    const utf8::Decoded c = utf8::decode(text.bytes(), at);
    const bool mark = marks.untrusted(at);
    at += static_cast<size_t>(c.size);
    if (c.codepoint == static_cast<uint32_t>(quote) || c.codepoint == '\\') {
      out.append("\\", mark);
      out.append_codepoint(c.codepoint, mark);
    } else if (c.codepoint == '\n' || c.codepoint == '\r' || c.codepoint == '\t') {
      out.append(c.codepoint == '\n' ? "\\n" : c.codepoint == '\r' ? "\\r" : "\\t", mark);
    } else if (unicode::is_printable(c.codepoint)) {
      out.append_codepoint(c.codepoint, mark);
    } else if (c.codepoint < 0x100) {
      out.append(fmt::format("\\x{:02x}", c.codepoint), mark);
    } else if (c.codepoint < 0x10000) {
      out.append(fmt::format("\\u{:04x}", c.codepoint), mark);
    } else {
      out.append(fmt::format("\\U{:08x}", c.codepoint), mark);
    }
  }
  out.append(std::string_view(&quote, 1));
}

void append_list_repr(Runtime& runtime, const List& list, MarkedText& out) {
  const bool tuple = list.kind == ListKind::kTuple;
  out.append(tuple ? "(" : "[");
  for (size_t i = 0; i < list.items.size(); ++i) {
    if (i > 0) out.append(", ");
    append_repr(runtime, list.items[i], out);
  }
  out.append(tuple ? (list.items.size() == 1 ? ",)" : ")") : "]");
}

void append_range_repr(const List& range, MarkedText& out) {
  const auto at = [&](size_t i) { return *range.items[i].integer(); };
  const size_t size = range.items.size();
  const int64_t step = size > 1 ? at(1) - at(0) : 1;
  const int64_t start = size > 0 ? at(0) : 0;
  const int64_t stop = start + step * static_cast<int64_t>(size);
  out.append(step == 1 ? fmt::format("range({}, {})", start, stop)
                       : fmt::format("range({}, {}, {})", start, stop, step));
}

struct JsonWriter {
  Runtime& runtime;
  const JsonStyle& style;
  MarkedText& out;
  MarkedText item_separator;
  MarkedText key_separator;

  void write(const Value& value, int level);

 private:
  void write_string(const MarkedText& text);
  void write_list(const List& list, int level);
  void write_dict(const Dict& dict, int level);
  void write_key(const Value& key);
  void new_line(int level);
};

void append_unicode_escape(MarkedText& out, uint32_t c, bool mark) {
  if (c >= 0x10000) {
    const uint32_t rest = c - 0x10000;
    out.append(fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + (rest >> 10), 0xDC00 + (rest & 0x3FF)),
               mark);
  } else {
    out.append(fmt::format("\\u{:04x}", c), mark);
  }
}

const char* short_escape(uint32_t c) {
  switch (c) {
    case '"':
      return "\\\"";
    case '\\':
      return "\\\\";
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    case '\b':
      return "\\b";
    case '\f':
      return "\\f";
    default:
      return nullptr;
  }
}

void JsonWriter::write_string(const MarkedText& text) {
  runtime.charge(text.size() + 2);
  MarkCursor marks(text);
  out.append("\"");
  for (size_t at = 0; at < text.size();) {
    const utf8::Decoded c = utf8::decode(text.bytes(), at);
    const bool mark = marks.untrusted(at);
    at += static_cast<size_t>(c.size);
    if (const char* escape = short_escape(c.codepoint)) {
      out.append(escape, mark);
    } else if (c.codepoint < 0x20 || (style.ensure_ascii && c.codepoint > 0x7E)) {
      append_unicode_escape(out, c.codepoint, mark);
    } else {
      out.append_codepoint(c.codepoint, mark);
    }
  }
  out.append("\"");
}

void JsonWriter::new_line(int level) {
  if (!style.indent) return;
  runtime.charge(style.indent->size() * static_cast<size_t>(level));
  out.append("\n");
  for (int i = 0; i < level; ++i) out.append(*style.indent);
}

void JsonWriter::write_list(const List& list, int level) {
  if (list.kind != ListKind::kList && list.kind != ListKind::kTuple) {
    runtime.fail(fmt::format("a {} cannot be written as JSON",
                             Value(std::make_shared<List>(list)).type_name()));
  }
  out.append("[");
  for (size_t i = 0; i < list.items.size(); ++i) {
    if (i > 0) out.append(item_separator);
    new_line(level + 1);
    write(list.items[i], level + 1);
  }
  if (!list.items.empty()) new_line(level);
  out.append("]");
}

void JsonWriter::write_key(const Value& key) {
  if (const MarkedText* text = key.string()) {
    write_string(*text);
  } else if (key.as_number() || key.is_none()) {
    out.append("\"");
    write(key, 0);
    out.append("\"");
  } else {
    runtime.fail(fmt::format("a {} cannot be a JSON key", key.type_name()));
  }
}

void JsonWriter::write_dict(const Dict& dict, int level) {
  std::vector<const std::pair<Value, Value>*> entries;
  for (const auto& entry : dict.entries()) entries.push_back(&entry);
  if (style.sort_keys) {
    std::stable_sort(entries.begin(), entries.end(), [&](const auto* a, const auto* b) {
      return less(runtime, a->first, b->first);
    });
  }
  out.append("{");
  for (size_t i = 0; i < entries.size(); ++i) {
    if (i > 0) out.append(item_separator);
    new_line(level + 1);
    write_key(entries[i]->first);
    out.append(key_separator);
    write(entries[i]->second, level + 1);
  }
  if (!entries.empty()) new_line(level);
  out.append("}");
}

void JsonWriter::write(const Value& value, int level) {
  runtime.step();
  runtime.charge(8);
  if (value.is_none()) {
    out.append("null");
  } else if (const bool* b = value.boolean()) {
    out.append(*b ? "true" : "false");
  } else if (const int64_t* i = value.integer()) {
    out.append(fmt::format("{}", *i));
  } else if (const double* d = value.real()) {
    const std::string text = float_text(*d);
    out.append(text == "inf"    ? "Infinity"
               : text == "-inf" ? "-Infinity"
               : text == "nan"  ? "NaN"
                                : text);
  } else if (const MarkedText* text = value.string()) {
    write_string(*text);
  } else if (const List* list = value.list()) {
    write_list(*list, level);
  } else if (const Dict* dict = value.dict()) {
    write_dict(*dict, level);
  } else if (value.is_undefined()) {
    runtime.fail_undefined(
        fmt::format("an undefined value cannot be written as JSON ({})", value.undefined_reason()));
  } else {
    runtime.fail(fmt::format("a {} cannot be written as JSON", value.type_name()));
  }
}

}  // namespace

std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  std::string text = fmt::format("{}", value);
  const bool whole = text.find_first_not_of("-0123456789") == std::string::npos;
  return whole ? text + ".0" : text;
}

void append_repr(Runtime& runtime, const Value& value, MarkedText& out) {
  runtime.step();
  runtime.charge(8);
  if (const MarkedText* text = value.string()) {
    append_repr(runtime, *text, out);
  } else if (const List* list = value.list()) {
    if (list->kind == ListKind::kRange) {
      append_range_repr(*list, out);
    } else if (list->kind == ListKind::kGenerator) {
      runtime.fail("a generator has no text; turn it into a list first (| list)");
    } else if (list->kind == ListKind::kView) {
      runtime.fail("a dictionary view has no text; turn it into a list first (| list)");
    } else {
      append_list_repr(runtime, *list, out);
    }
  } else if (const Dict* dict = value.dict()) {
    out.append("{");
    for (const auto& [key, item] : dict->entries()) {
      if (&item != &dict->entries().front().second) out.append(", ");
      append_repr(runtime, key, out);
      out.append(": ");
      append_repr(runtime, item, out);
    }
    out.append("}");
  } else if (value.is_undefined()) {
    out.append("Undefined");
  } else if (const Object* object = value.object()) {
    out.append(object->description());
  } else {
    out.append(to_text(runtime, value));
  }
}

MarkedText to_text(Runtime& runtime, const Value& value) {
  if (const MarkedText* text = value.string()) {
    runtime.charge(text->size());
    return *text;
  }
  if (value.is_undefined()) return {};
  if (value.is_none()) return MarkedText("None");
  if (const bool* b = value.boolean()) return MarkedText(*b ? "True" : "False");
  if (const int64_t* i = value.integer()) return MarkedText(fmt::format("{}", *i));
  if (const double* d = value.real()) return MarkedText(float_text(*d));
  MarkedText out;
  append_repr(runtime, value, out);
  return out;
}

MarkedText to_json(Runtime& runtime, const Value& value, const JsonStyle& style) {
  MarkedText out;
  JsonWriter writer{runtime, style, out, MarkedText(style.indent ? "," : ", "), MarkedText(": ")};
  if (style.separators) std::tie(writer.item_separator, writer.key_separator) = *style.separators;
  writer.write(value, 0);
  return out;
}

Value from_json(Runtime& runtime, const nlohmann::ordered_json& json) {
  runtime.step();
  switch (json.type()) {
    case OrderedJson::value_t::boolean:
      return json.get<bool>();
    case OrderedJson::value_t::number_integer:
      return json.get<int64_t>();
    case OrderedJson::value_t::number_unsigned: {
      const auto number = json.get<uint64_t>();
      if (number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
        return static_cast<double>(number);
      return static_cast<int64_t>(number);
    }
    case OrderedJson::value_t::number_float:
      return json.get<double>();
    case OrderedJson::value_t::string: {
      const auto& text = json.get_ref<const std::string&>();
      runtime.charge(text.size());
      return MarkedText::untrusted(text);
    }
    case OrderedJson::value_t::array: {
      std::vector<Value> items;
      for (const auto& item : json) items.push_back(from_json(runtime, item));
      return make_list(runtime, std::move(items));
    }
    case OrderedJson::value_t::object: {
      auto dict = std::make_shared<Dict>();
      for (const auto& [key, item] : json.items()) {
        set_entry(runtime, *dict, MarkedText::untrusted(key), from_json(runtime, item));
      }
      return std::shared_ptr<const Dict>(std::move(dict));
    }
    default:
      return None{};
  }
}

}  // namespace erne::jinja
