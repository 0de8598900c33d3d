// The small texts of HTTP: dates, ids, escapes, and what to say of bytes that are no request.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "server/http.h"

namespace erne::server {

/// Now, as RFC 9110 wants it: "Sun, 22 Nov 2026 13:05:55 GMT".
std::string http_date();
/// The incoming id if it is 1 to 128 visible ASCII characters, else a fresh one.
std::string request_id(std::string_view incoming);

enum class ParseProblem { kSyntax, kBodyTooLarge, kHeaderTooLarge };
/// Status and message for a request that cannot be parsed; `detail` is the parser's own word.
std::pair<int, std::string> describe_parse_error(ParseProblem problem, std::string_view detail,
                                                 const HttpOptions& options);

bool equal_ignoring_case(std::string_view a, std::string_view b);

}  // namespace erne::server
