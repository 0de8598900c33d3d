// The two ways Python formats strings: "%s" % values and "{}".format(values), for text, integers
// and floats.
#include <algorithm>
#include <cmath>

#include "base/utf8.h"
#include "chat/jinja/methods.h"
#include "chat/jinja/operators.h"

namespace erne::jinja {
namespace {

constexpr size_t kMaxWidth = 10'000;

// One conversion, in either notation.
struct Spec {
  std::string fill = " ";
  char align = '\0';  ///< < > ^ or none
  char sign = '-';
  bool alternate = false;
  bool zero = false;
  bool comma = false;
  size_t width = 0;
  std::optional<size_t> precision;
  char type = '\0';
};

size_t read_number(Runtime& runtime, std::string_view text, size_t& at) {
  size_t number = 0;
  for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at) {
    number = number * 10 + static_cast<size_t>(text[at] - '0');
    if (number > kMaxWidth)
      runtime.fail(fmt::format("a format width above {} is not supported", kMaxWidth));
  }
  return number;
}

MarkedText padded(const MarkedText& text, const Spec& spec, char default_align) {
  const size_t length = utf8::length(text.bytes());
  if (length >= spec.width) return text;
  const size_t missing = spec.width - length;
  const char align = spec.align != '\0' ? spec.align : default_align;
  const size_t left = align == '>' ? missing : align == '^' ? missing / 2 : 0;
  MarkedText out;
  for (size_t i = 0; i < left; ++i) out.append(spec.fill);
  out.append(text);
  for (size_t i = left; i < missing; ++i) out.append(spec.fill);
  return out;
}

std::string grouped(std::string digits) {
  for (size_t at = digits.find_first_of(".e"), end = at == std::string::npos ? digits.size() : at;
       end > 3;) {
    end -= 3;
    digits.insert(end, ",");
  }
  return digits;
}

MarkedText signed_number(std::string digits, bool negative, const Spec& spec) {
  if (spec.comma) digits = grouped(std::move(digits));
  std::string sign = negative ? "-" : spec.sign == '-' ? "" : std::string(1, spec.sign);
  if (spec.zero && spec.align == '\0' && spec.width > sign.size() + digits.size()) {
    digits.insert(0, spec.width - sign.size() - digits.size(), '0');
  }
  return padded(MarkedText(sign + digits), spec, '>');
}

MarkedText format_integer(Runtime& runtime, int64_t value, const Spec& spec) {
  const bool negative = value < 0;
  const uint64_t magnitude =
      negative ? ~static_cast<uint64_t>(value) + 1 : static_cast<uint64_t>(value);
  const auto prefix = [&](const char* text) {
    return spec.alternate ? std::string(text) : std::string();
  };
  switch (spec.type) {
    case '\0':
    case 'd':
    case 'i':
    case 'u':
      return signed_number(fmt::format("{}", magnitude), negative, spec);
    case 'x':
      return signed_number(prefix("0x") + fmt::format("{:x}", magnitude), negative, spec);
    case 'X':
      return signed_number(prefix("0X") + fmt::format("{:X}", magnitude), negative, spec);
    case 'o':
      return signed_number(prefix("0o") + fmt::format("{:o}", magnitude), negative, spec);
    case 'b':
      return signed_number(prefix("0b") + fmt::format("{:b}", magnitude), negative, spec);
    default:
      runtime.fail(Code::kUnsupported, fmt::format("format code '{}' is not supported", spec.type));
  }
}

MarkedText format_float(Runtime& runtime, double value, const Spec& spec) {
  const double magnitude = std::fabs(value);
  const auto precision = static_cast<int>(spec.precision.value_or(6));
  const bool negative = std::signbit(value);
  switch (spec.type) {
    case 'f':
    case 'F':
      return signed_number(fmt::format("{:.{}f}", magnitude, precision), negative, spec);
    case 'e':
      return signed_number(fmt::format("{:.{}e}", magnitude, precision), negative, spec);
    case 'g':
      return signed_number(fmt::format("{:.{}g}", magnitude, std::max(precision, 1)), negative,
                           spec);
    case '%':
      return signed_number(fmt::format("{:.{}f}%", magnitude * 100, precision), negative, spec);
    case '\0':
      if (!spec.precision) return signed_number(float_text(magnitude), negative, spec);
      [[fallthrough]];
    default:
      runtime.fail(Code::kUnsupported, "this format of a float is not supported");
  }
}

MarkedText format_string(const MarkedText& text, const Spec& spec) {
  const size_t length =
      spec.precision ? std::min(*spec.precision, utf8::length(text.bytes())) : text.size();
  size_t end = 0;
  for (size_t i = 0; i < length && end < text.size(); ++i)
    end += static_cast<size_t>(utf8::decode(text.bytes(), end).size);
  return padded(text.slice(0, end), spec, '<');
}

bool float_type(char type) {
  return type == 'f' || type == 'F' || type == 'e' || type == 'g' || type == '%';
}

MarkedText format_value(Runtime& runtime, const Value& value, const Spec& spec) {
  if (value.string() != nullptr) {
    if (spec.type != '\0' && spec.type != 's')
      runtime.fail(fmt::format("format code '{}' needs a number", spec.type));
    return format_string(*value.string(), spec);
  }
  if (float_type(spec.type) && value.as_number())
    return format_float(runtime, *value.as_number(), spec);
  if (const double* real = value.real()) return format_float(runtime, *real, spec);
  if (const int64_t* integer = value.integer()) return format_integer(runtime, *integer, spec);
  const bool plain = spec.width == 0 && spec.type == '\0' && !spec.precision;
  if (!plain) runtime.fail(fmt::format("a {} has no format but the plain one", value.type_name()));
  return to_text(runtime, value);
}

// ---- printf style

struct PrintfArguments {
  Runtime& runtime;
  const Value& values;
  size_t next = 0;

  Value take() {
    const List* tuple = values.list();
    const bool several = tuple != nullptr && tuple->kind == ListKind::kTuple;
    const size_t count = several ? tuple->items.size() : 1;
    if (next >= count) runtime.fail("not enough arguments for format string");
    return several ? tuple->items[next++] : (++next, values);
  }
  void check_all_used() const {
    const List* tuple = values.list();
    const bool several = tuple != nullptr && tuple->kind == ListKind::kTuple;
    const size_t count = several ? tuple->items.size() : values.dict() != nullptr ? 0 : 1;
    if (next < count) runtime.fail("not all arguments converted during string formatting");
  }
};

Spec read_printf_spec(Runtime& runtime, std::string_view format, size_t& at) {
  Spec spec;
  bool left = false;
  for (; at < format.size() && std::string_view("-+ 0#").find(format[at]) != std::string_view::npos;
       ++at) {
    if (format[at] == '-') left = true;
    if (format[at] == '+' || format[at] == ' ') spec.sign = format[at];
    if (format[at] == '0') spec.zero = true;
    if (format[at] == '#') spec.alternate = true;
  }
  if (left) spec.align = '<';
  spec.width = read_number(runtime, format, at);
  if (at < format.size() && format[at] == '.') spec.precision = read_number(runtime, format, ++at);
  if (at >= format.size()) runtime.fail("incomplete format");
  spec.type = format[at++];
  return spec;
}

MarkedText convert(Runtime& runtime, const Value& value, Spec spec) {
  if (spec.type == 's' || spec.type == 'r' || spec.type == 'a') {
    MarkedText text;
    if (spec.type == 's') {
      text = to_text(runtime, value);
    } else {
      append_repr(runtime, value, text);
    }
    if (spec.align == '\0') spec.align = '>';
    return format_string(text, spec);
  }
  if (value.is_undefined()) runtime.fail_undefined(value.undefined_reason());
  const auto number = value.as_number();
  if (!number)
    runtime.fail(fmt::format("%{} needs a number, got {}", spec.type, value.type_name()));
  if (float_type(spec.type)) return format_float(runtime, *number, spec);
  const int64_t whole = value.as_integer() ? *value.as_integer()
                                           : static_cast<int64_t>(std::clamp(*number, -9e18, 9e18));
  return format_integer(runtime, whole, spec);
}

// ---- str.format

Spec read_format_spec(Runtime& runtime, std::string_view text) {
  Spec spec;
  size_t at = 0;
  const auto is_align = [&](size_t i) {
    return i < text.size() && (text[i] == '<' || text[i] == '>' || text[i] == '^');
  };
  if (!text.empty()) {
    const auto size = static_cast<size_t>(utf8::decode(text, 0).size);
    if (is_align(size)) {
      spec.fill = std::string(text.substr(0, size));
      at = size;
    }
  }
  if (is_align(at)) spec.align = text[at++];
  if (at < text.size() && (text[at] == '+' || text[at] == '-' || text[at] == ' '))
    spec.sign = text[at++];
  if (at < text.size() && text[at] == '#') spec.alternate = text[at++] == '#';
  if (at < text.size() && text[at] == '0') spec.zero = text[at++] == '0';
  spec.width = read_number(runtime, text, at);
  if (at < text.size() && text[at] == ',') spec.comma = text[at++] == ',';
  if (at < text.size() && text[at] == '.') spec.precision = read_number(runtime, text, ++at);
  if (at < text.size()) spec.type = text[at++];
  if (at != text.size())
    runtime.fail(Code::kUnsupported, fmt::format("format '{}' is not supported", text));
  return spec;
}

// "0", "name", "name.attribute", "0[key]"
Value find_field(Runtime& runtime, std::string_view field, const Arguments& arguments,
                 size_t& next) {
  const size_t name_end = std::min(field.find_first_of(".["), field.size());
  const std::string name(field.substr(0, name_end));
  Value value;
  if (name.find_first_not_of("0123456789") == std::string::npos) {
    size_t at = 0;
    const size_t index = name.empty() ? next++ : read_number(runtime, name, at);
    if (index >= arguments.positional.size())
      runtime.fail(fmt::format("format() has no argument {}", index));
    value = arguments.positional[index];
  } else {
    const auto found = std::find_if(arguments.named.begin(), arguments.named.end(),
                                    [&](const auto& argument) { return argument.first == name; });
    if (found == arguments.named.end())
      runtime.fail(fmt::format("format() has no argument '{}'", name));
    value = found->second;
  }
  for (size_t at = name_end; at < field.size();) {
    const bool item = field[at] == '[';
    const size_t end =
        std::min(item ? field.find(']', at) : field.find_first_of(".[", at + 1), field.size());
    const std::string_view part = field.substr(at + 1, end - at - 1);
    value =
        item ? get_path(runtime, value, Value::text(part)) : get_attribute(runtime, value, part);
    at = item ? end + 1 : end;
  }
  return value;
}

MarkedText format_field(Runtime& runtime, std::string_view body, const Arguments& arguments,
                        size_t& next) {
  const size_t colon = std::min(body.find(':'), body.size());
  std::string_view field = body.substr(0, colon);
  const std::string_view spec = colon < body.size() ? body.substr(colon + 1) : std::string_view();
  const size_t bang = field.find('!');
  const std::string_view conversion = bang == std::string_view::npos ? "" : field.substr(bang + 1);
  field = field.substr(0, bang);
  Value value = find_field(runtime, field, arguments, next);
  if (conversion == "r") {
    MarkedText text;
    append_repr(runtime, value, text);
    value = std::move(text);
  } else if (conversion == "s") {
    value = to_text(runtime, value);
  } else if (!conversion.empty()) {
    runtime.fail(fmt::format("unknown conversion '!{}'", conversion));
  }
  return format_value(runtime, value, read_format_spec(runtime, spec));
}

}  // namespace

MarkedText printf_text(Runtime& runtime, const MarkedText& format, const Value& values) {
  const std::string& text = format.bytes();
  PrintfArguments arguments{runtime, values};
  MarkedText out;
  for (size_t at = 0; at < text.size();) {
    const size_t percent = std::min(text.find('%', at), text.size());
    out.append(format, at, percent);
    at = percent + 1;
    if (percent == text.size()) break;
    Value value;
    bool named = false;
    if (at < text.size() && text[at] == '(') {
      const size_t close = text.find(')', at);
      if (close == std::string::npos || values.dict() == nullptr)
        runtime.fail("format requires a mapping");
      value = get_item(runtime, values, format.slice(at + 1, close));
      named = true;
      at = close + 1;
    }
    const Spec spec = read_printf_spec(runtime, text, at);
    if (spec.type == '%') {
      out.append("%");
      continue;
    }
    const MarkedText piece = convert(runtime, named ? value : arguments.take(), spec);
    runtime.charge(piece.size());
    out.append(piece);
  }
  runtime.charge(text.size());
  arguments.check_all_used();
  return out;
}

MarkedText format_text(Runtime& runtime, const MarkedText& format, const Arguments& arguments) {
  const std::string& text = format.bytes();
  MarkedText out;
  size_t next = 0;
  runtime.charge(text.size());
  for (size_t at = 0; at < text.size();) {
    const size_t brace = std::min(text.find_first_of("{}", at), text.size());
    out.append(format, at, brace);
    if (brace == text.size()) break;
    if (brace + 1 < text.size() && text[brace + 1] == text[brace]) {
      out.append(format, brace, brace + 1);
      at = brace + 2;
      continue;
    }
    const size_t close = text.find('}', brace);
    if (text[brace] == '}' || close == std::string::npos)
      runtime.fail("single brace in a format string");
    const std::string_view body = std::string_view(text).substr(brace + 1, close - brace - 1);
    if (body.find('{') != std::string_view::npos) {
      runtime.fail(Code::kUnsupported, "nested fields in a format string are not supported");
    }
    const MarkedText piece = format_field(runtime, body, arguments, next);
    runtime.charge(piece.size());
    out.append(piece);
    at = close + 1;
  }
  return out;
}

}  // namespace erne::jinja
