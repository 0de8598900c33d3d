// The chat page that erne_embed compiles into the binary (web/index.html).
#pragma once

#include <string_view>

namespace erne {

extern const std::string_view kWebPage;

}  // namespace erne
