#include "token/json_fields.h"

#include <algorithm>
#include <utility>

namespace erne {

Json JsonFields::parse(std::string_view text, const std::string& file) {
  try {
    Json json = parse_json(text, file);
    if (!json.is_object())
      fail(Code::kCorrupt, "{}: a JSON object was expected, not {}", file, json.type_name());
    return json;
  } catch (const Error& e) {
    if (e.code() != Code::kInvalidArgument) throw;
    throw Error(Code::kCorrupt,
                e.what());  // bad syntax in a file is the file's fault, not the caller's
  }
}

JsonFields::JsonFields(const Json& object, std::string file, std::string where)
    : object_(object), file_(std::move(file)), where_(std::move(where)) {
  if (!object.is_object()) corrupt("an object was expected, not {}", object.type_name());
}

const Json* JsonFields::find(const char* key) const {
  const auto field = object_.find(key);
  return field == object_.end() || field->is_null() ? nullptr : &*field;
}

const Json& JsonFields::require(const char* key) const {
  const Json* field = find(key);
  if (field == nullptr) corrupt("\"{}\" is missing", key);
  return *field;
}

std::string JsonFields::text(const char* key) const {
  const Json& field = require(key);
  if (!field.is_string()) corrupt("\"{}\" must be a string, not {}", key, field.type_name());
  return field.get<std::string>();
}

std::string JsonFields::text_or(const char* key, std::string otherwise) const {
  return find(key) == nullptr ? std::move(otherwise) : text(key);
}

bool JsonFields::flag_or(const char* key, bool otherwise) const {
  const Json* field = find(key);
  if (field == nullptr) return otherwise;
  if (!field->is_boolean())
    corrupt("\"{}\" must be true or false, not {}", key, field->type_name());
  return field->get<bool>();
}

int64_t JsonFields::number(const char* key, int64_t limit) const {
  const Json& field = require(key);
  if (!field.is_number_integer())
    corrupt("\"{}\" must be a whole number, not {}", key, field.type_name());
  const bool fits = field.is_number_unsigned()
                        ? field.get<uint64_t>() <= static_cast<uint64_t>(limit)
                        : field.get<int64_t>() >= 0 && field.get<int64_t>() <= limit;
  if (!fits) corrupt("\"{}\" must be between 0 and {}, got {}", key, limit, dump_json(field));
  return field.get<int64_t>();
}

const Json& JsonFields::array(const char* key) const {
  const Json& field = require(key);
  if (!field.is_array()) corrupt("\"{}\" must be an array, not {}", key, field.type_name());
  return field;
}

JsonFields JsonFields::object(const char* key) const {
  return {require(key), file_, where_ + "." + key};
}

void JsonFields::only(std::initializer_list<std::string_view> known) const {
  for (const auto& [key, value] : object_.items()) {
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      unsupported("field \"{}\" is not known", key);
    }
  }
}

}  // namespace erne
