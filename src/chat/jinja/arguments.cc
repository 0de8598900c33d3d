#include "chat/jinja/arguments.h"

#include <algorithm>

namespace erne::jinja {

Bound::Bound(Runtime& runtime, std::string_view callee, const Arguments& arguments,
             std::initializer_list<std::string_view> names, size_t required)
    : runtime_(runtime), callee_(callee), values_(names.size(), nullptr) {
  if (arguments.positional.size() > names.size()) {
    runtime.fail(fmt::format("{} takes at most {} arguments, got {}", callee, names.size(),
                             arguments.positional.size()));
  }
  for (size_t i = 0; i < arguments.positional.size(); ++i) values_[i] = &arguments.positional[i];
  for (const auto& [name, value] : arguments.named) {
    const auto found = std::find(names.begin(), names.end(), name);
    if (found == names.end()) runtime.fail(fmt::format("{} takes no argument '{}'", callee, name));
    const Value*& slot = values_[static_cast<size_t>(found - names.begin())];
    if (slot != nullptr) runtime.fail(fmt::format("{} got two values for '{}'", callee, name));
    slot = &value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (!given(i))
      runtime.fail(fmt::format("{} needs the argument '{}'", callee, names.begin()[i]));
  }
}

int64_t Bound::integer(size_t i, int64_t otherwise) const {
  if (!given(i)) return otherwise;
  const auto number = values_[i]->as_integer();
  if (!number)
    runtime_.fail(fmt::format("{} needs an integer, got {}", callee_, values_[i]->type_name()));
  return *number;
}

const MarkedText& Bound::string(size_t i) const {
  const MarkedText* text = values_[i]->string();
  if (text != nullptr) return *text;
  if (values_[i]->is_undefined()) runtime_.fail_undefined(values_[i]->undefined_reason());
  runtime_.fail(fmt::format("{} needs a string, got {}", callee_, values_[i]->type_name()));
}

MarkedText Bound::text(size_t i, std::string_view otherwise) const {
  return given(i) ? to_text(runtime_, *values_[i]) : MarkedText(otherwise);
}

}  // namespace erne::jinja
