#include "server/api_error.h"

#include "base/json.h"
#include "base/log.h"

namespace erne::server {

std::string_view error_type(int status) {
  switch (status) {
    case 401:
      return "AuthenticationError";
    case 403:
      return "PermissionDeniedError";
    case 404:
      return "NotFoundError";
    case 405:
      return "MethodNotAllowed";
    case 408:
      return "RequestTimeout";
    case 409:
      return "ConflictError";
    case 413:
      return "PayloadTooLarge";
    case 415:
      return "UnsupportedMediaType";
    case 429:
      return "RateLimitError";
    case 503:
      return "ServiceUnavailableError";
    default:
      return status >= 500 ? "InternalServerError" : "BadRequestError";
  }
}

std::string error_body(int status, std::string_view message, std::string_view param,
                       std::string_view code_word) {
  OrderedJson error = {
      {"message", message}, {"type", error_type(status)}, {"param", nullptr}, {"code", status}};
  if (!param.empty()) error["param"] = param;
  if (!code_word.empty()) error["code"] = code_word;
  OrderedJson body;
  body["error"] = std::move(error);
  return dump_json(body);
}

HttpResponse error_response(int status, std::string_view message, std::string_view param,
                            std::string_view code_word) {
  HttpResponse response;
  response.status = status;
  response.body = error_body(status, message, param, code_word);
  return response;
}

HttpResponse unavailable(std::string_view message, int retry_after_s) {
  HttpResponse response = error_response(503, message);
  response.headers.push_back({"Retry-After", std::to_string(retry_after_s)});
  return response;
}

HttpResponse response_of(const std::exception& exception, std::string_view request_id) {
  if (const auto* refused = dynamic_cast<const RequestError*>(&exception)) {
    return error_response(http_status(refused->code()), refused->what(), refused->param(),
                          refused->code_word());
  }
  const auto* known = dynamic_cast<const Error*>(&exception);
  const Code code = known != nullptr ? known->code() : Code::kInternal;
  const int status = http_status(code);
  if (status == 503) return unavailable(exception.what());
  if (status < 500) {
    // Client libraries recognise an overflow by this phrase or code.
    const bool too_long =
        std::string_view(exception.what()).find("maximum context length") != std::string_view::npos;
    return error_response(status, exception.what(), {}, too_long ? "context_length_exceeded" : "");
  }
  log::error("request {}: {}", request_id, exception.what());
  HttpResponse response = error_response(
      status, fmt::format("internal error; the server's log has more on request {}", request_id));
  response.headers.push_back({"x-should-retry", "false"});
  return response;
}

}  // namespace erne::server
