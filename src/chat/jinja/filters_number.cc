// Filters that make numbers: abs, int, float, round.
#include <array>
#include <charconv>
#include <cmath>
#include <optional>
#include <string>

#include "chat/jinja/arguments.h"
#include "chat/jinja/filters.h"
#include "chat/jinja/operators.h"
#include "chat/jinja/unicode.h"

namespace erne::jinja {
namespace {

Value absolute(Runtime& runtime, const Value& input, const Arguments&) {
  if (input.is_undefined()) runtime.fail_undefined(input.undefined_reason());
  if (const double* d = input.real()) return std::fabs(*d);
  const auto i = input.as_integer();
  if (!i) runtime.fail(fmt::format("abs needs a number, got {}", input.type_name()));
  return *i < 0 ? unary(runtime, UnaryOp::kMinus, *i) : Value(*i);
}

// Python's int(text, base); nothing when it is not a number.
std::optional<int64_t> parse_integer(std::string_view text, int64_t base) {
  if (base != 0 && (base < 2 || base > 36)) return std::nullopt;
  const unicode::Span span = unicode::strip(text, true, true);
  std::string digits(text.substr(span.begin, span.end - span.begin));
  bool negative = false;
  if (digits.starts_with('-') || digits.starts_with('+')) {
    negative = digits.front() == '-';
    digits.erase(0, 1);
  }
  const auto skip_prefix = [&](char letter, int64_t meant) {
    const bool has = digits.size() > 2 && digits[0] == '0' && (digits[1] | 0x20) == letter;
    if (!has || (base != meant && base != 0)) return;
    base = meant;
    digits.erase(0, 2);
  };
  skip_prefix('x', 16);
  skip_prefix('o', 8);
  skip_prefix('b', 2);
  if (base == 0) base = 10;
  if (digits.empty() || digits.front() == '_' || digits.back() == '_') return std::nullopt;
  std::erase(digits, '_');
  if (digits.front() == '-' || digits.front() == '+') return std::nullopt;
  if (negative) digits.insert(0, "-");
  int64_t value = 0;
  const auto result =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, static_cast<int>(base));
  if (result.ec != std::errc{} || result.ptr != digits.data() + digits.size()) return std::nullopt;
  return value;
}

std::optional<double> parse_float(std::string_view text) {
  const unicode::Span span = unicode::strip(text, true, true);
  std::string digits(text.substr(span.begin, span.end - span.begin));
  if (digits.starts_with('+')) digits.erase(0, 1);
  double value = 0;
  const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (result.ptr != digits.data() + digits.size() || digits.empty() ||
      result.ec == std::errc::invalid_argument) {
    return std::nullopt;
  }
  return value;
}

std::optional<int64_t> truncate(double value) {
  if (!(std::fabs(value) < 9.2e18)) return std::nullopt;
  return static_cast<int64_t>(value);
}

Value to_int(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Bound bound(runtime, "int", arguments, {"default", "base"});
  if (input.is_undefined()) runtime.fail_undefined(input.undefined_reason());
  const int64_t base = bound.integer(1, 10);
  std::optional<int64_t> number;
  if (const MarkedText* text = input.string()) {
    number = parse_integer(text->bytes(), base);
    const auto real = number ? std::nullopt : parse_float(text->bytes());
    if (real) number = truncate(*real);
  } else if (input.as_integer()) {
    number = input.as_integer();
  } else if (input.real() != nullptr) {
    number = truncate(*input.real());
  }
  return number ? Value(*number) : bound.value(0, int64_t{0});
}

Value to_float(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Bound bound(runtime, "float", arguments, {"default"});
  if (input.is_undefined()) runtime.fail_undefined(input.undefined_reason());
  std::optional<double> number = input.as_number();
  if (const MarkedText* text = input.string()) number = parse_float(text->bytes());
  return number ? Value(*number) : bound.value(0, 0.0);
}

Value round(Runtime& runtime, const Value& input, const Arguments& arguments) {
  constexpr int64_t kMaxPrecision = 300;
  const Bound bound(runtime, "round", arguments, {"precision", "method"});
  const int64_t precision = bound.integer(0, 0);
  const std::string method = bound.text(1, "common").bytes();
  const auto number = input.as_number();
  if (!number) runtime.fail(fmt::format("round needs a number, got {}", input.type_name()));
  if (std::abs(precision) > kMaxPrecision)
    runtime.fail(fmt::format("round cannot keep {} digits", precision));
  const double scale = std::pow(10.0, static_cast<double>(precision));
  if (method == "ceil" || method == "floor") {
    const double scaled = *number * scale;
    return (method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale;
  }
  if (method != "common")
    runtime.fail(fmt::format("round knows common, ceil and floor, not '{}'", method));
  if (input.as_integer() && precision >= 0) return *input.as_integer();
  if (precision < 0) {
    const double rounded = std::nearbyint(*number * scale) / scale;
    return input.as_integer() ? Value(static_cast<int64_t>(rounded)) : Value(rounded);
  }
  // Formatting rounds the exact binary value half to even, which is Python's rule.
  return std::stod(fmt::format("{:.{}f}", *number, precision));
}

constexpr auto kNumberFilters = std::to_array<FilterEntry>({
    {"abs", absolute},
    {"float", to_float},
    {"int", to_int},
    {"round", round},
});

}  // namespace

Filter find_number_filter(std::string_view name) {
  for (const FilterEntry& entry : kNumberFilters) {
    if (entry.name == name) return entry.filter;
  }
  return nullptr;
}

}  // namespace erne::jinja
