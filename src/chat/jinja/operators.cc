#include "chat/jinja/operators.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/utf8.h"
#include "chat/jinja/methods.h"
#include "chat/jinja/unicode.h"

namespace erne::jinja {
namespace {

const char* symbol(BinaryOp op) {
  switch (op) {
    case BinaryOp::kAdd:
      return "+";
    case BinaryOp::kSub:
      return "-";
    case BinaryOp::kMul:
      return "*";
    case BinaryOp::kDiv:
      return "/";
    case BinaryOp::kFloorDiv:
      return "//";
    case BinaryOp::kMod:
      return "%";
    case BinaryOp::kPow:
      return "**";
    case BinaryOp::kAnd:
      return "and";
    case BinaryOp::kOr:
      return "or";
  }
  return "?";
}

[[noreturn]] void overflow(Runtime& runtime) {
  runtime.fail("integer result does not fit into 64 bits");
}

int64_t power(Runtime& runtime, int64_t base, int64_t exponent) {
  int64_t result = 1;
  for (; exponent > 0; --exponent) {
    if (base == 0 || base == 1) return base;
    if (base == -1) return exponent % 2 == 0 ? 1 : -1;
    if (__builtin_mul_overflow(result, base, &result)) overflow(runtime);
  }
  return result;
}

Value integer_arithmetic(Runtime& runtime, BinaryOp op, int64_t a, int64_t b) {
  int64_t result = 0;
  switch (op) {
    case BinaryOp::kAdd:
      if (__builtin_add_overflow(a, b, &result)) overflow(runtime);
      return result;
    case BinaryOp::kSub:
      if (__builtin_sub_overflow(a, b, &result)) overflow(runtime);
      return result;
    case BinaryOp::kMul:
      if (__builtin_mul_overflow(a, b, &result)) overflow(runtime);
      return result;
    case BinaryOp::kPow:
      if (b < 0) return std::pow(static_cast<double>(a), static_cast<double>(b));
      return power(runtime, a, b);
    default:
      break;
  }
  if (b == 0) runtime.fail("division by zero");
  if (op == BinaryOp::kDiv) return static_cast<double>(a) / static_cast<double>(b);
  if (b == -1) {  // the one quotient that can overflow, and whose remainder traps
    if (op == BinaryOp::kMod) return int64_t{0};
    if (__builtin_sub_overflow(int64_t{0}, a, &result)) overflow(runtime);
    return result;
  }
  const int64_t remainder = a % b;
  const bool adjust =
      remainder != 0 && (remainder < 0) != (b < 0);  // Python rounds towards minus infinity
  if (op == BinaryOp::kMod) return adjust ? remainder + b : remainder;
  return adjust ? a / b - 1 : a / b;
}

Value float_arithmetic(Runtime& runtime, BinaryOp op, double a, double b) {
  switch (op) {
    case BinaryOp::kAdd:
      return a + b;
    case BinaryOp::kSub:
      return a - b;
    case BinaryOp::kMul:
      return a * b;
    case BinaryOp::kPow:
      return std::pow(a, b);
    default:
      break;
  }
  if (b == 0) runtime.fail("division by zero");
  if (op == BinaryOp::kDiv) return a / b;
  double remainder = std::fmod(a, b);
  if (remainder != 0 && (remainder < 0) != (b < 0)) remainder += b;
  if (op == BinaryOp::kMod) return remainder;
  return std::floor((a - remainder) / b + 0.5);
}

Value repeat(Runtime& runtime, const Value& value, int64_t count) {
  const auto times = static_cast<size_t>(std::max<int64_t>(count, 0));
  const auto charge = [&](size_t size) {
    if (size != 0 && times > static_cast<size_t>(runtime.limits().bytes) / size) {
      runtime.fail("the product is too large");
    }
    runtime.charge(size * times);
  };
  if (const MarkedText* text = value.string()) {
    charge(text->size());
    MarkedText out;
    for (size_t i = 0; i < times && !text->empty(); ++i) out.append(*text);
    return out;
  }
  const List& list = *value.list();
  charge(list.items.size() * sizeof(Value));
  std::vector<Value> items;
  for (size_t i = 0; i < times && !list.items.empty(); ++i) {
    items.insert(items.end(), list.items.begin(), list.items.end());
  }
  return make_list(runtime, std::move(items), list.kind);
}

bool repeatable(const Value& value) {
  const List* list = value.list();
  return value.string() != nullptr ||
         (list != nullptr && (list->kind == ListKind::kList || list->kind == ListKind::kTuple));
}

std::optional<Value> add_sequences(Runtime& runtime, const Value& left, const Value& right) {
  if (left.string() != nullptr && right.string() != nullptr) {
    runtime.charge(left.string()->size() + right.string()->size());
    MarkedText out = *left.string();
    out.append(*right.string());
    return out;
  }
  const List* a = left.list();
  const List* b = right.list();
  if (a == nullptr || b == nullptr || a->kind != b->kind || !repeatable(left)) return std::nullopt;
  std::vector<Value> items = a->items;
  items.insert(items.end(), b->items.begin(), b->items.end());
  return make_list(runtime, std::move(items), a->kind);
}

// A subscript counted from the end when negative; nothing when out of range.
std::optional<size_t> index_in(size_t size, int64_t index) {
  const auto length = static_cast<int64_t>(size);
  if (index < 0) index += length;
  if (index < 0 || index >= length) return std::nullopt;
  return static_cast<size_t>(index);
}

std::optional<Value> item_of(Runtime& runtime, const Value& object, const Value& key) {
  if (const Dict* dict = object.dict()) {
    if (key.string() == nullptr) runtime.step(static_cast<int64_t>(dict->entries().size()));
    const Value* found = dict->find(key);
    if (found == nullptr) return std::nullopt;
    return *found;
  }
  const auto index = key.as_integer();
  if (!index) return std::nullopt;
  if (const List* list = object.list()) {
    if (list->kind == ListKind::kView || list->kind == ListKind::kGenerator) return std::nullopt;
    const auto at = index_in(list->items.size(), *index);
    if (!at) return std::nullopt;
    return list->items[*at];
  }
  if (const MarkedText* text = object.string()) {
    runtime.step(static_cast<int64_t>(text->size() / 64));
    const auto at = index_in(utf8::length(text->bytes()), *index);
    if (!at) return std::nullopt;
    const size_t begin = unicode::offset_of(text->bytes(), *at);
    return text->slice(begin, begin + static_cast<size_t>(utf8::decode(text->bytes(), begin).size));
  }
  return std::nullopt;
}

std::optional<Value> attribute_of(Runtime& runtime, const Value& object, std::string_view name) {
  if (Object* o = object.object()) return o->attribute(runtime, name);
  if (has_method(object, name)) return make_method(runtime, object, name);
  return std::nullopt;
}

Value missing(const Value& object, std::string_view name) {
  return Value::undefined(
      fmt::format("'{} object' has no attribute '{}'", object.type_name(), name));
}

struct SliceRange {
  int64_t start, stop, step;
};

// Python's slice.indices(): start and stop clamped into the sequence.
SliceRange slice_range(Runtime& runtime, int64_t size, const Value& start, const Value& stop,
                       const Value& step) {
  const auto part = [&](const Value& value, int64_t otherwise) {
    if (value.is_none() || value.is_undefined()) return otherwise;
    const auto number = value.as_integer();
    if (!number)
      runtime.fail(fmt::format("slice indices must be integers, got {}", value.type_name()));
    return *number;
  };
  SliceRange range{0, 0, part(step, 1)};
  if (range.step == 0) runtime.fail("a slice step cannot be zero");
  const bool forward = range.step > 0;
  const int64_t low = forward ? 0 : -1;
  const int64_t high = forward ? size : size - 1;
  const auto clamp = [&](int64_t at) {
    if (at < 0) at = at < -size ? low : at + size;
    return std::clamp(at, low, high);
  };
  const bool no_start = start.is_none() || start.is_undefined();
  const bool no_stop = stop.is_none() || stop.is_undefined();
  range.start = no_start ? (forward ? low : high) : clamp(part(start, 0));
  range.stop = no_stop ? (forward ? high : low) : clamp(part(stop, 0));
  return range;
}

template <typename Visit>
void for_each(const SliceRange& range, Visit&& visit) {
  // Steps beyond any length would overflow the sum.
  constexpr int64_t kMaxStep = int64_t{1} << 40;
  const int64_t step = std::clamp(range.step, -kMaxStep, kMaxStep);
  for (int64_t i = range.start; step > 0 ? i < range.stop : i > range.stop; i += step)
    visit(static_cast<size_t>(i));
}

}  // namespace

Value binary(Runtime& runtime, BinaryOp op, const Value& left, const Value& right) {
  if (left.is_undefined()) runtime.fail_undefined(left.undefined_reason());
  if (op == BinaryOp::kMod && left.string() != nullptr)
    return printf_text(runtime, *left.string(), right);
  if (right.is_undefined()) runtime.fail_undefined(right.undefined_reason());
  if (left.as_integer() && right.as_integer()) {
    return integer_arithmetic(runtime, op, *left.as_integer(), *right.as_integer());
  }
  if (left.as_number() && right.as_number()) {
    return float_arithmetic(runtime, op, *left.as_number(), *right.as_number());
  }
  if (op == BinaryOp::kAdd) {
    if (auto sum = add_sequences(runtime, left, right)) return *std::move(sum);
  }
  if (op == BinaryOp::kMul && repeatable(left) && right.as_integer())
    return repeat(runtime, left, *right.as_integer());
  if (op == BinaryOp::kMul && repeatable(right) && left.as_integer())
    return repeat(runtime, right, *left.as_integer());
  runtime.fail(fmt::format("'{}' is not defined for {} and {}", symbol(op), left.type_name(),
                           right.type_name()));
}

Value unary(Runtime& runtime, UnaryOp op, const Value& operand) {
  if (op == UnaryOp::kNot) return !operand.truthy();
  if (operand.is_undefined()) runtime.fail_undefined(operand.undefined_reason());
  if (const auto i = operand.as_integer()) {
    if (op == UnaryOp::kPlus) return *i;
    return integer_arithmetic(runtime, BinaryOp::kSub, 0, *i);
  }
  if (const double* d = operand.real()) return op == UnaryOp::kPlus ? *d : -*d;
  runtime.fail(fmt::format("{} has no sign", operand.type_name()));
}

bool contains(Runtime& runtime, const Value& container, const Value& item) {
  if (const MarkedText* text = container.string()) {
    runtime.step(static_cast<int64_t>(text->size() / 64));
    if (item.is_undefined()) runtime.fail_undefined(item.undefined_reason());
    if (item.string() == nullptr)
      runtime.fail(fmt::format("'in <string>' needs a string, got {}", item.type_name()));
    runtime.search(text->size(), item.string()->size());
    return text->bytes().find(item.string()->bytes()) != std::string::npos;
  }
  if (const Dict* dict = container.dict()) {
    if (item.string() == nullptr) runtime.step(static_cast<int64_t>(dict->entries().size()));
    return dict->find(item) != nullptr;
  }
  const auto items = iterate(runtime, container);
  return std::any_of(items->items.begin(), items->items.end(),
                     [&](const Value& v) { return equal(runtime, v, item); });
}

bool compare(Runtime& runtime, CompareOp op, const Value& left, const Value& right) {
  switch (op) {
    case CompareOp::kEq:
      return equal(runtime, left, right);
    case CompareOp::kNe:
      return !equal(runtime, left, right);
    case CompareOp::kLt:
      return less(runtime, left, right);
    case CompareOp::kLe:
      return less(runtime, left, right) || equal(runtime, left, right);
    case CompareOp::kGt:
      return less(runtime, right, left);
    case CompareOp::kGe:
      return less(runtime, right, left) || equal(runtime, left, right);
    case CompareOp::kIn:
      return contains(runtime, right, left);
    case CompareOp::kNotIn:
      return !contains(runtime, right, left);
  }
  return false;
}

Value get_attribute(Runtime& runtime, const Value& object, std::string_view name) {
  if (object.is_undefined()) runtime.fail_undefined(object.undefined_reason());
  if (auto attribute = attribute_of(runtime, object, name)) return *std::move(attribute);
  if (const Dict* dict = object.dict()) {
    if (const Value* found = dict->find(name)) return *found;
  }
  return missing(object, name);
}

Value get_item(Runtime& runtime, const Value& object, const Value& key) {
  if (object.is_undefined()) runtime.fail_undefined(object.undefined_reason());
  if (auto item = item_of(runtime, object, key)) return *std::move(item);
  if (key.string() == nullptr) {
    return Value::undefined(fmt::format("{} object has no element {}", object.type_name(),
                                        to_text(runtime, key).bytes()));
  }
  const std::string& name = key.string()->bytes();
  if (auto attribute = attribute_of(runtime, object, name)) return *std::move(attribute);
  return missing(object, name);
}

Value slice(Runtime& runtime, const Value& object, const Value& start, const Value& stop,
            const Value& step) {
  if (object.is_undefined()) runtime.fail_undefined(object.undefined_reason());
  if (const List* list = object.list(); list != nullptr && list->kind <= ListKind::kRange) {
    const auto range =
        slice_range(runtime, static_cast<int64_t>(list->items.size()), start, stop, step);
    std::vector<Value> items;
    for_each(range, [&](size_t i) { items.push_back(list->items[i]); });
    runtime.step(static_cast<int64_t>(items.size()));
    return make_list(runtime, std::move(items), list->kind);
  }
  const MarkedText* text = object.string();
  if (text == nullptr) {
    return Value::undefined(fmt::format("a {} cannot be sliced", object.type_name()));
  }
  runtime.step(static_cast<int64_t>(text->size() / 16));
  runtime.charge(text->size());
  std::vector<size_t> offsets;  // where each character begins, and the end
  for (size_t at = 0; at < text->size();
       at += static_cast<size_t>(utf8::decode(text->bytes(), at).size)) {
    offsets.push_back(at);
  }
  const auto length = static_cast<int64_t>(offsets.size());
  offsets.push_back(text->size());
  const auto range = slice_range(runtime, length, start, stop, step);
  MarkedText out;
  if (range.step == 1) {
    if (range.start < range.stop) {
      out = text->slice(offsets[static_cast<size_t>(range.start)],
                        offsets[static_cast<size_t>(range.stop)]);
    }
  } else {
    for_each(range, [&](size_t i) { out.append(*text, offsets[i], offsets[i + 1]); });
  }
  return out;
}

Value get_path(Runtime& runtime, Value object, const Value& path) {
  const MarkedText* text = path.string();
  if (text == nullptr) return get_item(runtime, object, path);
  std::string_view rest = text->bytes();
  for (;;) {
    const size_t dot = rest.find('.');
    const std::string_view part = rest.substr(0, dot);
    const bool digits = !part.empty() && part.size() < 10 &&
                        part.find_first_not_of("0123456789") == std::string::npos;
    object = get_item(runtime, object,
                      digits ? Value(int64_t{std::stol(std::string(part))}) : Value::text(part));
    if (dot == std::string_view::npos) return object;
    rest = rest.substr(dot + 1);
  }
}

}  // namespace erne::jinja
