// Golden files into memory (tests/goldens/README.md): untrusted like every other file, so every
// shape is checked.
#include <algorithm>
#include <charconv>
#include <cstring>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "model/verify.h"
#include "tensor/safetensors.h"

namespace erne {
namespace {

namespace fs = std::filesystem;

void check_ids(const std::vector<int32_t>& ids, const TextConfig& config,
               const std::string& where) {
  if (ids.empty()) fail(Code::kCorrupt, "{} is empty", where);
  for (const int32_t id : ids) {
    if (id < 0 || id >= config.vocab_size) {
      fail(Code::kCorrupt, "{}: id {} is outside the vocabulary of {}", where, id,
           config.vocab_size);
    }
  }
}

class SafetensorsGolden {
 public:
  SafetensorsGolden(const fs::path& path, const TextConfig& config)
      : file_(SafetensorsFile::open(path)), name_(path.string()), config_(config) {}

  Golden read() const {
    Golden golden;
    for (const StoredTensor& t : file_.tensors()) {
      if (t.info.name.starts_with("ids."))
        golden.sequences.push_back(sequence(t.info.name.substr(4)));
    }
    if (golden.sequences.empty())
      fail(Code::kCorrupt, "{}: no tensor ids.K, so nothing to compare", name_);
    std::sort(golden.sequences.begin(), golden.sequences.end(),
              [](const GoldenSequence& a, const GoldenSequence& b) { return a.name < b.name; });
    return golden;
  }

 private:
  GoldenSequence sequence(const std::string& key) const {
    GoldenSequence s;
    s.name = key;
    s.ids = ids("ids." + key);
    const auto tokens = static_cast<int64_t>(s.ids.size());
    if (file_.find("logits." + key) != nullptr)
      s.logits = floats("logits." + key, tokens, config_.vocab_size);
    if (file_.find("greedy." + key) != nullptr) s.greedy = ids("greedy." + key);
    const std::string prefix = "hidden." + key + ".";
    for (const StoredTensor& t : file_.tensors()) {
      if (!t.info.name.starts_with(prefix)) continue;
      const std::string number = t.info.name.substr(prefix.size());
      int layer = -1;
      const auto [end, error] =
          std::from_chars(number.data(), number.data() + number.size(), layer);
      if (error != std::errc() || end != number.data() + number.size() || layer < 0 ||
          layer > config_.num_layers) {
        fail(Code::kCorrupt, "{}: {} does not name a layer of 0 to {}", name_, t.info.name,
             config_.num_layers);
      }
      s.hidden[layer] = floats(t.info.name, tokens, config_.hidden_size);
    }
    return s;
  }

  std::vector<int32_t> ids(const std::string& name) const {
    const StoredTensor* t = file_.find(name);
    if (t->info.dtype != DType::kI64 || t->info.shape.size() != 1) {
      fail(Code::kCorrupt, "{}: {} is {} {}, expected int64 [T]", name_, name,
           dtype_name(t->info.dtype), t->info.shape_text());
    }
    std::vector<int32_t> result;
    for (uint64_t i = 0; i < t->bytes / 8; ++i) {
      int64_t value = 0;
      std::memcpy(&value, t->data + 8 * i, 8);
      result.push_back(static_cast<int32_t>(std::clamp<int64_t>(value, -1, INT32_MAX)));
    }
    check_ids(result, config_, name_ + ": " + name);
    return result;
  }

  std::vector<float> floats(const std::string& name, int64_t rows, int64_t cols) const {
    const StoredTensor* t = file_.find(name);
    if (t->info.dtype != DType::kF32 || t->info.shape != std::vector<int64_t>{rows, cols}) {
      fail(Code::kCorrupt, "{}: {} is {} {}, expected float32 [{}, {}]", name_, name,
           dtype_name(t->info.dtype), t->info.shape_text(), rows, cols);
    }
    std::vector<float> values(t->bytes / 4);
    std::memcpy(values.data(), t->data, t->bytes);
    return values;
  }

  SafetensorsFile file_;
  std::string name_;
  const TextConfig& config_;
};

std::vector<int32_t> json_ids(const Json& entry, const char* key, const TextConfig& config,
                              const std::string& where) {
  const std::string place = where + "." + key;
  if (!entry.is_object() || !entry.contains(key) || !entry[key].is_array()) {
    fail(Code::kCorrupt, "{} is missing or not a list", place);
  }
  std::vector<int32_t> ids;
  for (const Json& id : entry[key]) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > INT32_MAX)
      fail(Code::kCorrupt, "{}: not an id", place);
    ids.push_back(id.get<int32_t>());
  }
  check_ids(ids, config, place);
  return ids;
}

Golden read_json(const fs::path& path, const TextConfig& config) {
  const Json list = parse_json(read_file(path), path.string());
  if (!list.is_array() || list.empty())
    fail(Code::kCorrupt, "{}: expected a list of prompts", path.string());
  Golden golden;
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string where = fmt::format("{}: [{}]", path.string(), i);
    GoldenSequence s;
    s.name = std::to_string(i);
    s.ids = json_ids(list[i], "prompt_ids", config, where);
    s.greedy = json_ids(list[i], "completion_ids", config, where);
    golden.sequences.push_back(std::move(s));
  }
  return golden;
}

std::optional<double> read_reference_bf16_error(const fs::path& path, const Golden& golden) {
  if (!fs::exists(path)) return std::nullopt;
  const Json yardstick = parse_json(read_file(path), path.string());
  double error = 0;
  double tokens = 0;
  try {
    for (const GoldenSequence& s : golden.sequences) {
      const auto count = static_cast<double>(s.ids.size());
      error += yardstick.at("sequences").at(s.name).at("mean_abs_error").get<double>() * count;
      tokens += count;
    }
  } catch (const Json::exception& e) {
    fail(Code::kCorrupt, "{}: {}", path.string(), e.what());
  }
  return error / tokens;
}

}  // namespace

Golden read_golden(const fs::path& file, const TextConfig& config) {
  if (file.extension() == ".json") return read_json(file, config);
  Golden golden = SafetensorsGolden(file, config).read();
  golden.reference_bf16_error = read_reference_bf16_error(file.parent_path() / "bf16.json", golden);
  return golden;
}

}  // namespace erne
