// The chat page that is compiled into the binary (web/index.html).
#pragma once

#include <string_view>

namespace erne::server {

std::string_view web_page();

}  // namespace erne::server
