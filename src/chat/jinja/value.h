// Values of the template language with Python's semantics: what is true, equal, smaller, and how it
// prints.
#pragma once

#include <concepts>
#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "chat/jinja/marked_text.h"
#include "chat/jinja/runtime.h"

namespace erne::jinja {

class Value;
class Interpreter;

struct Undefined {
  std::shared_ptr<const std::string> why;  ///< null: "value is undefined"
};
struct None {};

enum class ListKind { kList, kTuple, kRange, kView, kGenerator };

/// A sequence; immutable, but for what a generator has already given away.
struct List {
  ListKind kind = ListKind::kList;
  int depth = 1;  ///< nesting of containers inside; bounded, so that recursion over values is
  size_t taken = 0;
  std::vector<Value> items;
};

/// An ordered mapping with Python's rules for equal keys. Built once, then immutable.
class Dict {
 public:
  const std::vector<std::pair<Value, Value>>& entries() const { return entries_; }
  const Value* find(std::string_view key) const;
  const Value* find(const Value& key) const;
  /// Replaces the value of an equal key in place, as Python does.
  void set(Value key, Value value);
  int depth = 1;

 private:
  std::optional<size_t> position(const Value& key) const;
  std::optional<size_t> position(std::string_view key) const;

  std::vector<std::pair<Value, Value>> entries_;
  std::unordered_map<std::string, size_t> strings_;  ///< only beyond a handful of entries
};

/// Arguments of a call, already evaluated.
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

/// Something with identity: namespace, macro, loop, function. Owned by the Runtime.
class Object {
 public:
  virtual ~Object() = default;
  /// As Python names the type in messages.
  virtual std::string_view type_name() const = 0;
  virtual std::string description() const = 0;
  virtual std::optional<Value> attribute(Runtime& runtime, std::string_view name);
  virtual Value call(Interpreter& interpreter, Arguments arguments);
  virtual bool callable() const { return false; }
};

class Value {
 public:
  using Data =
      std::variant<Undefined, None, bool, int64_t, double, std::shared_ptr<const MarkedText>,
                   std::shared_ptr<List>, std::shared_ptr<const Dict>, Object*>;

  Value() = default;
  Value(None) : data_(None{}) {}
  Value(bool b) : data_(b) {}
  Value(int64_t i) : data_(i) {}
  Value(double d) : data_(d) {}
  Value(MarkedText text) : data_(std::make_shared<const MarkedText>(std::move(text))) {}
  Value(std::shared_ptr<List> list) : data_(std::move(list)) {}
  Value(std::shared_ptr<const Dict> dict) : data_(std::move(dict)) {}
  Value(Object* object) : data_(object) {}
  template <typename T>
    requires(!std::derived_from<T, Object>)
  Value(T*) = delete;  // a pointer would silently become a bool
  static Value text(std::string_view trusted) { return Value(MarkedText(trusted)); }
  static Value undefined(std::string why);

  bool is_undefined() const { return std::holds_alternative<Undefined>(data_); }
  bool is_none() const { return std::holds_alternative<None>(data_); }
  const bool* boolean() const { return std::get_if<bool>(&data_); }
  const int64_t* integer() const { return std::get_if<int64_t>(&data_); }
  const double* real() const { return std::get_if<double>(&data_); }
  const MarkedText* string() const;
  const std::shared_ptr<const MarkedText>* shared_string() const;
  List* list() const;
  const std::shared_ptr<List>* shared_list() const {
    return std::get_if<std::shared_ptr<List>>(&data_);
  }
  const Dict* dict() const;
  Object* object() const;

  /// An integer or a bool (Python's bool is an int).
  std::optional<int64_t> as_integer() const;
  std::optional<double> as_number() const;
  bool truthy() const;
  /// Python's name of the type.
  std::string_view type_name() const;
  /// Why it is undefined, for messages.
  std::string undefined_reason() const;
  int depth() const;

 private:
  Data data_;
};

Value make_list(Runtime& runtime, std::vector<Value> items, ListKind kind = ListKind::kList);
/// Fails for unhashable keys; later equal keys replace the value.
void set_entry(Runtime& runtime, Dict& dict, Value key, Value value);

/// Python's ==; counts steps, since shared values can be exponentially large.
bool equal(Runtime& runtime, const Value& a, const Value& b);
/// Python's <; fails for types without an order.
bool less(Runtime& runtime, const Value& a, const Value& b);
/// str(value): what {{ }} prints.
MarkedText to_text(Runtime& runtime, const Value& value);
/// repr(value), appended.
void append_repr(Runtime& runtime, const Value& value, MarkedText& out);
std::string float_text(double value);

/// All items from where the value stands; a generator is used up. Fails for what cannot be
/// iterated.
std::shared_ptr<const List> iterate(Runtime& runtime, const Value& value);

struct JsonStyle {
  bool ensure_ascii = false;
  std::optional<std::string> indent;
  std::optional<std::pair<MarkedText, MarkedText>> separators;
  bool sort_keys = false;
};
/// Python's json.dumps.
MarkedText to_json(Runtime& runtime, const Value& value, const JsonStyle& style);
/// A request's JSON: every string is untrusted.
Value from_json(Runtime& runtime, const nlohmann::ordered_json& json);

}  // namespace erne::jinja
