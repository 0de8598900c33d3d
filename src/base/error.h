// The one exception of the program, and the check for broken invariants.
//
// Error is thrown by loaders, parsers, constructors and request validation, and caught in four
// places only: main, the HTTP handler, the engine thread, and a foreign-language border. Absence is
// std::optional, never an Error.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace erne {

/// What went wrong, in terms that map once to an HTTP status (http_status) and once to an exit code
/// (exit_code).
enum class Code {
  kInvalidArgument,  ///< the caller's value is wrong                    400, exit 2
  kNotFound,         ///< the named thing does not exist                 404, exit 3
  kConflict,         ///< the state does not allow it                    409, exit 1
  kUnsupported,      ///< known, but not built; refused by name          400, exit 2
  kCorrupt,          ///< a file or message contradicts itself           500, exit 3
  kUnavailable,      ///< try again later (queue full, draining)         503, exit 1
  kOutOfMemory,      ///< the budget does not hold it                    503, exit 4
  kIo,               ///< the operating system or the network refused    500, exit 1
  kInternal,         ///< a bug                                          500, exit 1
};

/// HTTP status for a code, as in the table above.
int http_status(Code code);
/// Process exit status for a code, as in the table above.
int exit_code(Code code);

class Error : public std::runtime_error {
 public:
  Error(Code code, std::string message) : std::runtime_error(std::move(message)), code_(code) {}
  Code code() const { return code_; }

 private:
  Code code_;
};

[[noreturn]] void throw_error(Code code, std::string message);
[[noreturn]] void check_failed(const char* expression, const char* file, int line,
                               std::string message);

/// fail(Code::kInvalidArgument, "top_p must be in (0, 1], got {}", x): name the thing, its value,
/// and what would be valid.
template <typename... Args>
[[noreturn]] void fail(Code code, fmt::format_string<Args...> format, Args&&... args) {
  throw_error(code, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace erne

/// Broken invariant: prints expression, place and the optional fmt message, then aborts, in release
/// builds too.
#define ERNE_CHECK(condition, ...)                                                         \
  do {                                                                                     \
    if (!(condition)) [[unlikely]]                                                         \
      ::erne::check_failed(#condition, __FILE__, __LINE__, ::fmt::format("" __VA_ARGS__)); \
  } while (0)

#ifdef NDEBUG
#define ERNE_DCHECK(condition) ((void)0)
#else
#define ERNE_DCHECK(condition) ERNE_CHECK(condition)
#endif
