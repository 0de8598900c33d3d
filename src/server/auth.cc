#include "server/auth.h"

#include "server/api_error.h"
#include "server/http_text.h"

namespace erne::server {
namespace {

HttpResponse unauthorized(std::string_view message) {
  HttpResponse response = error_response(401, message);
  response.headers.push_back({"WWW-Authenticate", "Bearer"});
  return response;
}

}  // namespace

bool equal_in_constant_time(std::string_view presented, std::string_view secret) {
  // The loop runs over what the caller sent, so only its own length shows.
  unsigned difference = presented.size() == secret.size() ? 0 : 1;
  for (size_t i = 0; i < presented.size(); ++i) {
    const char other = secret.empty() ? '\0' : secret[i % secret.size()];
    difference |= static_cast<unsigned char>(presented[i] ^ other);
  }
  return difference == 0;
}

std::optional<std::string_view> bearer_key(std::string_view authorization) {
  const size_t space = authorization.find(' ');
  if (space == std::string_view::npos ||
      !equal_ignoring_case(authorization.substr(0, space), "bearer")) {
    return std::nullopt;
  }
  const size_t begin = authorization.find_first_not_of(' ', space);
  if (begin == std::string_view::npos) return std::nullopt;
  return authorization.substr(begin);
}

std::optional<HttpResponse> check_key(const Keys& keys, const HttpRequest& request,
                                      bool admin_route) {
  if (request.method == "OPTIONS") return std::nullopt;
  if (!admin_route) {
    const std::string_view path = request.path;
    if (path == "/" || path.starts_with("/health") || path.starts_with("/ready") ||
        path.starts_with("/metrics")) {
      return std::nullopt;
    }
  }
  const std::optional<std::string>& wanted = admin_route && keys.admin ? keys.admin : keys.api;
  if (!wanted) return std::nullopt;
  const auto presented = bearer_key(request.header("authorization"));
  if (!presented) return unauthorized("an API key is needed: send 'Authorization: Bearer KEY'");
  if (equal_in_constant_time(*presented, *wanted)) return std::nullopt;
  if (admin_route && keys.admin && keys.api && equal_in_constant_time(*presented, *keys.api)) {
    return error_response(403, "this route takes the admin key (--admin-api-key) only");
  }
  return unauthorized("the API key is wrong");
}

}  // namespace erne::server
