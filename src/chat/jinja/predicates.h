// Tests: value is name(arguments).
#pragma once

#include <string_view>

#include "chat/jinja/value.h"

namespace erne::jinja {

bool is_test(std::string_view name);
/// Fails for an unknown name (tests can be named at run time, by select).
bool apply_test(Runtime& runtime, std::string_view name, const Value& input,
                const Arguments& arguments);

}  // namespace erne::jinja
