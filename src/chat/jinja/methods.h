// Methods of strings, dictionaries and lists, as Python has them; those that would change a value
// are refused, as transformers' sandbox does.
#pragma once

#include <string_view>

#include "chat/jinja/value.h"

namespace erne::jinja {

bool has_method(const Value& object, std::string_view name);
/// The bound method as a value.
Value make_method(Runtime& runtime, const Value& object, std::string_view name);
/// has_method must hold.
Value call_method(Runtime& runtime, const Value& object, std::string_view name,
                  const Arguments& arguments);

/// "{} is {name}".format(…)
MarkedText format_text(Runtime& runtime, const MarkedText& format, const Arguments& arguments);
/// str.replace; a negative count replaces all.
MarkedText replace(Runtime& runtime, const MarkedText& text, const MarkedText& from,
                   const MarkedText& to, int64_t count);
MarkedText join(Runtime& runtime, const MarkedText& separator,
                const std::vector<MarkedText>& parts);
MarkedText upper(Runtime& runtime, const MarkedText& text);
MarkedText lower(Runtime& runtime, const MarkedText& text);
MarkedText capitalize(Runtime& runtime, const MarkedText& text);
std::vector<Value> split_lines(Runtime& runtime, const MarkedText& text, bool keep_ends);

}  // namespace erne::jinja
