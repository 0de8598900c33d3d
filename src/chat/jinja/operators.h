// Operators, subscripts and attribute access with Python's semantics.
#pragma once

#include <string_view>

#include "chat/jinja/ast.h"
#include "chat/jinja/value.h"

namespace erne::jinja {

/// + - * / // % ** (and, or are the interpreter's).
Value binary(Runtime& runtime, BinaryOp op, const Value& left, const Value& right);
Value unary(Runtime& runtime, UnaryOp op, const Value& operand);
bool compare(Runtime& runtime, CompareOp op, const Value& left, const Value& right);
/// item in container
bool contains(Runtime& runtime, const Value& container, const Value& item);

/// object.name: attributes and methods first, then items; undefined when there is none.
Value get_attribute(Runtime& runtime, const Value& object, std::string_view name);
/// object[key]: items first, then attributes.
Value get_item(Runtime& runtime, const Value& object, const Value& key);
/// object[start:stop:step]; none or undefined parts are left out.
Value slice(Runtime& runtime, const Value& object, const Value& start, const Value& stop,
            const Value& step);
/// Follows "a.b.0", as the attribute arguments of filters do.
Value get_path(Runtime& runtime, Value object, const Value& path);

/// "%s and %d" % values
MarkedText printf_text(Runtime& runtime, const MarkedText& format, const Value& values);

}  // namespace erne::jinja
