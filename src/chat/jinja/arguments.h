// How built-in functions read their arguments: by position or by name, as Python binds them.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "chat/jinja/value.h"

namespace erne::jinja {

class Bound {
 public:
  /// Binds to parameters of these names; fails for too many, unknown or doubly given ones, and when
  /// one of the first `required` is missing. `arguments` must outlive this.
  Bound(Runtime& runtime, std::string_view callee, const Arguments& arguments,
        std::initializer_list<std::string_view> names, size_t required = 0);

  /// Null when not given.
  const Value* get(size_t i) const { return values_[i]; }
  bool given(size_t i) const { return values_[i] != nullptr; }
  Value value(size_t i, Value otherwise) const { return given(i) ? *values_[i] : otherwise; }
  bool flag(size_t i, bool otherwise) const { return given(i) ? values_[i]->truthy() : otherwise; }
  int64_t integer(size_t i, int64_t otherwise) const;
  /// Fails for what is not a string.
  const MarkedText& string(size_t i) const;
  /// As Python's str(); `otherwise` when not given.
  MarkedText text(size_t i, std::string_view otherwise) const;

 private:
  Runtime& runtime_;
  std::string_view callee_;
  std::vector<const Value*> values_;
};

}  // namespace erne::jinja
