// Typed, bounded reading of the JSON objects that describe a model; shared by config.cc and
// generation_config.cc.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/json.h"

namespace erne {

/// Larger configuration files are refused.
inline constexpr size_t kMaxConfigBytes = size_t{4} << 20;

struct IntRange {
  int64_t least;
  int64_t most;
};

/// The text as a JSON object; throws Error{kInvalidArgument} naming `what`.
Json parse_config_object(std::string_view json_text, std::string_view what);

/// Readers of one object. null counts as absent, as transformers writes it. A value of the wrong
/// type or range throws Error{kInvalidArgument} naming file, key, value and what is valid.
class ConfigKeys {
 public:
  /// Both outlive the reader.
  ConfigKeys(const Json& object, std::string_view what) : object_(object), what_(what) {}

  /// Null when absent.
  const Json* find(const char* key) const;
  std::optional<int64_t> integer(const char* key, IntRange range) const;
  int64_t required(const char* key, IntRange range) const;
  /// Also of a list, whose first element counts: vision checkpoints give MoE sizes as (text,
  /// vision).
  std::optional<int64_t> first_integer(const char* key, IntRange range) const;
  std::optional<double> number(const char* key, double least, double most) const;
  std::optional<bool> boolean(const char* key) const;
  std::optional<std::string> text(const char* key) const;

  [[noreturn]] void refuse(Code code, const char* key, const Json& value,
                           std::string_view accepted) const;
  std::string_view what() const { return what_; }

 private:
  int64_t checked_integer(const char* key, const Json& value, IntRange range) const;

  const Json& object_;
  std::string_view what_;
};

/// Whether an entry of this name exists. A broken or cyclic link does: opening it then says what is
/// wrong.
bool is_present(const std::filesystem::path& path);

/// A value as a message shows it: JSON, cut to 80 bytes.
std::string shown(const Json& value);

}  // namespace erne
