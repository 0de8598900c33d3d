// Tokens to the tree of ast.h, by the grammar of Jinja 3.1.
#pragma once

#include <string_view>

#include "chat/jinja/ast.h"

namespace erne::jinja {

/// Throws Error{kInvalidArgument} for bad syntax and Error{kUnsupported} for tags, filters and
/// tests that are known to Jinja but not to this engine, both with "NAME, line N".
Body parse(std::string_view source, std::string_view name);

}  // namespace erne::jinja
