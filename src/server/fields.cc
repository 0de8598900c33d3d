#include "server/fields.h"

#include <cmath>
#include <mutex>

#include "base/json.h"
#include "base/log.h"
#include "base/utf8.h"
#include "server/api_error.h"

namespace erne::server {
namespace {

/// The value as an integer if it is one (or a float without a fraction).
std::optional<int64_t> as_integer(const OrderedJson& value) {
  if (value.is_number_unsigned()) {
    const auto wide = value.get<uint64_t>();
    if (wide > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
    return static_cast<int64_t>(wide);
  }
  if (value.is_number_integer()) return value.get<int64_t>();
  if (value.is_number_float()) {
    const double number = value.get<double>();
    if (std::abs(number) < 0x1.0p53 && number == std::floor(number))
      return static_cast<int64_t>(number);
  }
  return std::nullopt;
}

}  // namespace

std::string shown(const OrderedJson& value) {
  constexpr size_t kMaxBytes = 100;
  if (value.is_array() && value.size() > 32)
    return fmt::format("an array of {} elements", value.size());
  if (value.is_object() && value.size() > 32)
    return fmt::format("an object of {} fields", value.size());
  std::string text = dump_json(value);
  if (text.size() <= kMaxBytes) return text;
  text.resize(kMaxBytes);
  text.resize(text.size() - utf8::incomplete_tail(text));
  return text + "…";
}

Fields::Fields(const OrderedJson& object, std::string path)
    : object_(object), path_(std::move(path)) {
  if (!object.is_object()) {
    refuse_field(path_.empty() ? "body" : path_, "must be a JSON object, got {}", shown(object));
  }
}

std::string Fields::path(std::string_view name) const {
  return path_.empty() ? std::string(name) : fmt::format("{}.{}", path_, name);
}

const OrderedJson* Fields::find(std::string_view name) {
  asked_.emplace(name);
  const auto found = object_.find(std::string(name));
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

std::optional<bool> Fields::boolean(std::string_view name) {
  const OrderedJson* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean())
    refuse_field(path(name), "must be true or false, got {}", shown(*value));
  return value->get<bool>();
}

std::optional<int64_t> Fields::integer(std::string_view name, int64_t least, int64_t most) {
  const OrderedJson* value = find(name);
  if (value == nullptr) return std::nullopt;
  const auto number = as_integer(*value);
  if (!number || *number < least || *number > most) {
    refuse_field(path(name), "must be an integer from {} to {}, got {}", least, most,
                 shown(*value));
  }
  return number;
}

std::optional<double> Fields::number(std::string_view name, double least, double most) {
  const OrderedJson* value = find(name);
  if (value == nullptr) return std::nullopt;
  const double number = value->is_number() ? value->get<double>() : std::nan("");
  if (!std::isfinite(number) || number < least || number > most) {
    if (std::isinf(most))
      refuse_field(path(name), "must be a number from {} up, got {}", least, shown(*value));
    refuse_field(path(name), "must be a number from {} to {}, got {}", least, most, shown(*value));
  }
  return number;
}

std::optional<std::string> Fields::string(std::string_view name, size_t max_bytes) {
  const OrderedJson* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) refuse_field(path(name), "must be a string, got {}", shown(*value));
  const auto& text = value->get_ref<const std::string&>();
  if (text.size() > max_bytes)
    refuse_field(path(name), "must have at most {} bytes, got {}", max_bytes, text.size());
  return text;
}

std::vector<std::string> Fields::strings(std::string_view name) {
  const OrderedJson* value = find(name);
  if (value == nullptr) return {};
  if (value->is_string()) return {value->get<std::string>()};
  if (!value->is_array())
    refuse_field(path(name), "must be a string or an array of strings, got {}", shown(*value));
  std::vector<std::string> out;
  for (size_t i = 0; i < value->size(); ++i) {
    const OrderedJson& element = (*value)[i];
    if (!element.is_string()) {
      refuse_field(fmt::format("{}.{}", path(name), i), "must be a string, got {}", shown(element));
    }
    out.push_back(element.get<std::string>());
  }
  return out;
}

std::vector<int32_t> Fields::ids(std::string_view name, int64_t vocab_size) {
  const OrderedJson* value = find(name);
  if (value == nullptr) return {};
  return read_ids(*value, path(name), vocab_size);
}

std::vector<int32_t> read_ids(const OrderedJson& array, const std::string& path,
                              int64_t vocab_size) {
  if (!array.is_array()) refuse_field(path, "must be an array of token ids, got {}", shown(array));
  std::vector<int32_t> out;
  out.reserve(array.size());
  for (size_t i = 0; i < array.size(); ++i) {
    const auto id = as_integer(array[i]);
    if (!id || *id < 0 || *id >= vocab_size) {
      refuse_field(fmt::format("{}.{}", path, i), "must be a token id from 0 to {}, got {}",
                   vocab_size - 1, shown(array[i]));
    }
    out.push_back(static_cast<int32_t>(*id));
  }
  return out;
}

void Fields::log_unknown() const {
  if (!log::enabled(log::Level::kDebug)) return;
  static std::mutex mutex;
  static std::set<std::string>* const seen =
      new std::set<std::string>;      // lives as long as the process
  constexpr size_t kMaxNames = 1000;  // names come from clients: bounded
  const std::lock_guard lock(mutex);
  for (const auto& item : object_.items()) {
    if (asked_.contains(item.key()) || seen->size() >= kMaxNames) continue;
    if (seen->insert(path(item.key())).second)
      log::debug("request field '{}' is unknown: ignored", path(item.key()));
  }
}

}  // namespace erne::server
