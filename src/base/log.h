// Logging: one process-wide logger on stderr, so that stdout stays free for results. Thin over
// spdlog to keep its heavy headers out of other files.
#pragma once

#include <fmt/format.h>

#include <string_view>
#include <utility>

namespace erne::log {

enum class Level { kDebug, kInfo, kWarn, kError, kOff };

/// Sets the least level that is printed. Thread-safe.
void set_level(Level level);
/// "debug", "info", "warning" (or "warn"), "error", "off"; throws Error{kInvalidArgument} for
/// another word.
Level parse_level(std::string_view word);
bool enabled(Level level);
void write(Level level, std::string_view message);

template <typename... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::kDebug))
    write(Level::kDebug, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::kInfo)) write(Level::kInfo, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void warn(fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::kWarn)) write(Level::kWarn, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void error(fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::kError))
    write(Level::kError, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace erne::log
