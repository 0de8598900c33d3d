// Errors as clients see them: {"error":{"message","type","param","code"}} with the HTTP status
// (spec serving.md 2).
#pragma once

#include <exception>
#include <string>
#include <string_view>

#include "base/error.h"
#include "server/http.h"

namespace erne::server {

/// Error with the path of the field that caused it ("messages.2.content") and, where clients match
/// on one, a code word.
class RequestError : public Error {
 public:
  RequestError(Code code, std::string param, std::string message, std::string code_word = {})
      : Error(code, std::move(message)),
        param_(std::move(param)),
        code_word_(std::move(code_word)) {}
  const std::string& param() const { return param_; }
  const std::string& code_word() const { return code_word_; }

 private:
  std::string param_;
  std::string code_word_;
};

/// Throws RequestError{kInvalidArgument}: the message becomes "PARAM: …".
template <typename... Args>
[[noreturn]] void refuse_field(const std::string& param, fmt::format_string<Args...> format,
                               Args&&... args) {
  throw RequestError(Code::kInvalidArgument, param,
                     param + ": " + fmt::format(format, std::forward<Args>(args)...));
}

/// "BadRequestError", … for an HTTP status.
std::string_view error_type(int status);
/// The JSON text of an error; `param` empty: null; `code_word` empty: the status as a number.
std::string error_body(int status, std::string_view message, std::string_view param = {},
                       std::string_view code_word = {});
HttpResponse error_response(int status, std::string_view message, std::string_view param = {},
                            std::string_view code_word = {});
/// 503 with Retry-After.
HttpResponse unavailable(std::string_view message, int retry_after_s = 1);
/// Any exception of request handling; one that is no Error is logged with `request_id` and answered
/// 500 without details.
HttpResponse response_of(const std::exception& exception, std::string_view request_id);

}  // namespace erne::server
