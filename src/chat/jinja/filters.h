// Filters: value | name(arguments).
#pragma once

#include <string_view>

#include "chat/jinja/value.h"

namespace erne::jinja {

bool is_filter(std::string_view name);
/// Fails for an unknown name (filters can be named at run time, by map).
Value apply_filter(Runtime& runtime, std::string_view name, const Value& input,
                   const Arguments& arguments);

using Filter = Value (*)(Runtime&, const Value& input, const Arguments&);
struct FilterEntry {
  std::string_view name;
  Filter filter;
};
/// Null when there is no such filter. Text filters are in filters_text.cc, the others in
/// filters.cc.
Filter find_text_filter(std::string_view name);
Filter find_number_filter(std::string_view name);

}  // namespace erne::jinja
