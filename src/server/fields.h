// Typed, range-checked reading of a JSON object from a request. Every error names the field's path,
// the value and what would be valid.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace erne::server {

/// A field that is null counts as absent. The object must outlive the reader. Throws
/// RequestError{kInvalidArgument}.
class Fields {
 public:
  /// `path` is that of the object, empty for the body.
  Fields(const nlohmann::ordered_json& object, std::string path);

  const nlohmann::ordered_json* find(std::string_view name);
  std::optional<bool> boolean(std::string_view name);
  /// A number without a fraction in [least, most]; 5.0 is accepted for 5.
  std::optional<int64_t> integer(std::string_view name, int64_t least, int64_t most);
  /// A finite number in [least, most].
  std::optional<double> number(std::string_view name, double least, double most);
  std::optional<std::string> string(std::string_view name, size_t max_bytes = SIZE_MAX);
  /// A string or an array of strings; empty if absent.
  std::vector<std::string> strings(std::string_view name);
  /// An array of ids in [0, vocab_size); empty if absent.
  std::vector<int32_t> ids(std::string_view name, int64_t vocab_size);

  /// Fields nobody asked for are ignored, and said once per name in the debug log.
  void log_unknown() const;
  std::string path(std::string_view name) const;

 private:
  const nlohmann::ordered_json& object_;
  std::string path_;
  std::set<std::string, std::less<>> asked_;
};

/// Elements of an array of token ids, checked against [0, vocab_size).
std::vector<int32_t> read_ids(const nlohmann::ordered_json& array, const std::string& path,
                              int64_t vocab_size);
/// A value for an error message: its JSON, cut to a sane length.
std::string shown(const nlohmann::ordered_json& value);

}  // namespace erne::server
