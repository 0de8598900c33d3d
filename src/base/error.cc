#include "base/error.h"

#include <cstdio>
#include <cstdlib>

namespace erne {

int http_status(Code code) {
  switch (code) {
    case Code::kInvalidArgument:
    case Code::kUnsupported:
      return 400;
    case Code::kNotFound:
      return 404;
    case Code::kConflict:
      return 409;
    case Code::kUnavailable:
    case Code::kOutOfMemory:
      return 503;
    case Code::kCorrupt:
    case Code::kIo:
    case Code::kInternal:
      return 500;
  }
  return 500;
}

int exit_code(Code code) {
  switch (code) {
    case Code::kInvalidArgument:
    case Code::kUnsupported:
      return 2;
    case Code::kNotFound:
    case Code::kCorrupt:
      return 3;
    case Code::kOutOfMemory:
      return 4;
    case Code::kConflict:
    case Code::kUnavailable:
    case Code::kIo:
    case Code::kInternal:
      return 1;
  }
  return 1;
}

void throw_error(Code code, std::string message) { throw Error(code, std::move(message)); }

void check_failed(const char* expression, const char* file, int line, std::string message) {
  std::fprintf(stderr, "erne: broken invariant at %s:%d: %s%s%s\n", file, line, expression,
               message.empty() ? "" : ": ", message.c_str());
  std::abort();
}

}  // namespace erne
