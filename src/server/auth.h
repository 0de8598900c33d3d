// Who may call what: --api-key and --admin-api-key (spec serving.md 2).
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "server/http.h"

namespace erne::server {

struct Keys {
  std::optional<std::string> api, admin;
};

/// An answer (401, 403) refuses the request. Open to all: OPTIONS, and paths that start with
/// /health, /ready, /metrics; the page at / too, which holds nothing secret and could not send a
/// key. Admin routes take the admin key if there is one.
std::optional<HttpResponse> check_key(const Keys& keys, const HttpRequest& request,
                                      bool admin_route);

/// The key of "Authorization: Bearer KEY", scheme in any case; nullopt without one.
std::optional<std::string_view> bearer_key(std::string_view authorization);
/// Takes the same time wherever the strings differ.
bool equal_in_constant_time(std::string_view presented, std::string_view secret);

}  // namespace erne::server
