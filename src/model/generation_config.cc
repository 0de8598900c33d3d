// generation_config.json: the checkpoint's own sampling defaults and the ids that end a text.
#include <limits>

#include "base/file.h"
#include "model/config.h"
#include "model/config_keys.h"

namespace erne {
namespace {

std::vector<int32_t> read_ids(const ConfigKeys& keys, const char* key) {
  const Json* value = keys.find(key);
  if (value == nullptr) return {};
  const auto id = [&](const Json& item) {
    if (!item.is_number_integer() || item < 0 || item > std::numeric_limits<int32_t>::max()) {
      keys.refuse(Code::kInvalidArgument, key, *value, "a token id or a list of them is valid");
    }
    return item.get<int32_t>();
  };
  if (!value->is_array()) return {id(*value)};
  std::vector<int32_t> ids;
  for (const Json& item : *value) ids.push_back(id(item));
  return ids;
}

std::optional<int32_t> read_id(const ConfigKeys& keys, const char* key) {
  const std::vector<int32_t> ids = read_ids(keys, key);
  return ids.empty() ? std::nullopt : std::optional(ids.front());
}

}  // namespace

GenerationConfig GenerationConfig::parse(std::string_view json_text, std::string_view what) {
  const Json object = parse_config_object(json_text, what);
  const ConfigKeys keys(object, what);
  constexpr double kMost = 1e6;
  GenerationConfig config;
  config.temperature = keys.number("temperature", 0, kMost);
  config.top_p = keys.number("top_p", 0, 1);
  config.min_p = keys.number("min_p", 0, 1);
  config.repetition_penalty = keys.number("repetition_penalty", 0, kMost);
  config.frequency_penalty = keys.number("frequency_penalty", -kMost, kMost);
  config.presence_penalty = keys.number("presence_penalty", -kMost, kMost);
  if (const auto top_k = keys.integer("top_k", {-1, std::numeric_limits<int32_t>::max()})) {
    config.top_k = static_cast<int>(*top_k);
  }
  config.do_sample = keys.boolean("do_sample");
  config.eos_ids = read_ids(keys, "eos_token_id");
  config.bos_id = read_id(keys, "bos_token_id");
  config.pad_id = read_id(keys, "pad_token_id");
  return config;
}

GenerationConfig GenerationConfig::load(const std::filesystem::path& folder) {
  GenerationConfig config;
  const std::filesystem::path path = folder / "generation_config.json";
  if (is_present(path)) config = parse(read_file(path, kMaxConfigBytes), path.string());
  const std::filesystem::path model_path = folder / "config.json";
  if (!is_present(model_path)) return config;
  const Json object =
      parse_config_object(read_file(model_path, kMaxConfigBytes), model_path.string());
  const std::string what = model_path.string();
  const ConfigKeys keys(object, what);
  if (config.eos_ids.empty()) config.eos_ids = read_ids(keys, "eos_token_id");
  if (!config.bos_id) config.bos_id = read_id(keys, "bos_token_id");
  if (!config.pad_id) config.pad_id = read_id(keys, "pad_token_id");
  return config;
}

}  // namespace erne
