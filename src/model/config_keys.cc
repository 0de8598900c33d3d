// Bounds and messages of configuration values.
#include "model/config_keys.h"

#include <limits>
#include <system_error>

#include "base/utf8.h"

namespace erne {

Json parse_config_object(std::string_view json_text, std::string_view what) {
  Json object = parse_json(json_text, what);
  if (!object.is_object()) fail(Code::kInvalidArgument, "{}: not a JSON object", what);
  return object;
}

bool is_present(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::exists(std::filesystem::symlink_status(path, ignored));
}

std::string shown(const Json& value) {
  std::string text = dump_json(value);
  if (text.size() > 80) text = utf8::sanitize(text.substr(0, 80)) + "...";
  return text;
}

const Json* ConfigKeys::find(const char* key) const {
  const auto it = object_.find(key);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

void ConfigKeys::refuse(Code code, const char* key, const Json& value,
                        std::string_view accepted) const {
  fail(code, "{}: {} is {}; {}", what_, key, shown(value), accepted);
}

std::optional<int64_t> ConfigKeys::integer(const char* key, IntRange range) const {
  const Json* value = find(key);
  return value == nullptr ? std::nullopt : std::optional(checked_integer(key, *value, range));
}

int64_t ConfigKeys::required(const char* key, IntRange range) const {
  const std::optional<int64_t> value = integer(key, range);
  if (!value) fail(Code::kInvalidArgument, "{}: {} is missing", what_, key);
  return *value;
}

std::optional<int64_t> ConfigKeys::first_integer(const char* key, IntRange range) const {
  const Json* value = find(key);
  if (value != nullptr && value->is_array() && !value->empty()) value = &value->front();
  if (value == nullptr || value->is_null()) return std::nullopt;
  return checked_integer(key, *value, range);
}

std::optional<double> ConfigKeys::number(const char* key, double least, double most) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  const double x =
      value->is_number() ? value->get<double>() : std::numeric_limits<double>::quiet_NaN();
  if (!(x >= least && x <= most)) {
    refuse(Code::kInvalidArgument, key, *value,
           fmt::format("a number from {} to {} is valid", least, most));
  }
  return x;
}

std::optional<bool> ConfigKeys::boolean(const char* key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) refuse(Code::kInvalidArgument, key, *value, "true or false is valid");
  return value->get<bool>();
}

std::optional<std::string> ConfigKeys::text(const char* key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) refuse(Code::kInvalidArgument, key, *value, "a string is valid");
  return value->get<std::string>();
}

int64_t ConfigKeys::checked_integer(const char* key, const Json& value, IntRange range) const {
  const bool fits = value.is_number_integer() &&
                    (!value.is_number_unsigned() ||
                     value.get<uint64_t>() <= uint64_t{std::numeric_limits<int64_t>::max()});
  if (!fits || value.get<int64_t>() < range.least || value.get<int64_t>() > range.most) {
    refuse(Code::kInvalidArgument, key, value,
           fmt::format("an integer from {} to {} is valid", range.least, range.most));
  }
  return value.get<int64_t>();
}

}  // namespace erne
