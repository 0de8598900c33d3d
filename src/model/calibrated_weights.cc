#include "model/calibrated_weights.h"

#include <charconv>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "model/checkpoint.h"
#include "model/stored_codes.h"

namespace erne {
namespace {

namespace fs = std::filesystem;

// The layer of "model.layers.3.…"; -1 for tensors of none.
int layer_of(std::string_view name) {
  constexpr std::string_view kLayers = "model.layers.";
  if (!name.starts_with(kLayers)) return -1;
  name.remove_prefix(kLayers.size());
  int layer = -1;
  std::from_chars(name.data(), name.data() + name.size(), layer);
  return layer;
}

}  // namespace

CalibratedWeights::CalibratedWeights(const Checkpoint& checkpoint, const QuantizationPlan& plan,
                                     const CalibrationOptions& options, ThreadPool& pool)
    : num_layers_(checkpoint.config().num_layers),
      plan_(checkpoint.config(), plan, options.method),
      rewritten_(plan_.rewritten()),
      calibrator_(checkpoint, plan_, options, pool, [this](int layer) { return finished(layer); }) {
}

void CalibratedWeights::expect(const Tensor& tensor, const fs::path& file) {
  places_[layer_of(tensor.expected.name)].push_back({tensor, file});
}

const CalibratedTensors* CalibratedWeights::of(const std::string& name) {
  const int layer = name == "lm_head.weight" ? num_layers_ : layer_of(name);
  if (layer < 0) return nullptr;
  if (layer != layer_) {
    current_ = layer == num_layers_ ? &calibrator_.head() : &calibrator_.layer(layer);
    layer_ = layer;
  }
  return current_;
}

const SafetensorsFile& CalibratedWeights::open(const fs::path& file) {
  const auto it = files_.find(file);
  return it != files_.end() ? it->second
                            : files_.emplace(file, SafetensorsFile::open(file)).first->second;
}

std::optional<WeightOverlay> CalibratedWeights::finished(int layer) {
  WeightOverlay overlay;
  for (const auto& [tensor, path] : places_[layer]) {
    std::error_code absent;
    if (!fs::is_regular_file(path, absent)) return std::nullopt;
    const std::string& name = tensor.expected.name;
    const SafetensorsFile& file = open(path);
    const auto part = [&](std::string_view suffix) -> std::optional<SourceTensor> {
      const StoredTensor* stored = file.find(fmt::format("{}{}", name, suffix));
      if (stored == nullptr) return std::nullopt;
      return SourceTensor{stored, &file.path()};
    };
    const auto stored = part("");
    if (!stored) fail(Code::kCorrupt, "{}: tensor '{}' is missing", path.string(), name);
    if (tensor.is_codes) {
      StoredCodeParts parts;
      parts.codes = stored;
      for (std::string_view suffix : {kScaleSuffix, kMinSuffix, kInputsSuffix, kInputAbsmaxSuffix,
                                      kSuperSuffix, kCodeScaleSuffix, kCodeZpSuffix}) {
        const auto found = part(suffix);
        parts.*find_part(suffix) = found;
      }
      overlay.codes[name] = open_codes(parts, tensor.expected);
    } else if (rewrites(name)) {
      const auto count = static_cast<size_t>(tensor.expected.rows * tensor.expected.cols);
      std::vector<float>& numbers = overlay.numbers[name];
      numbers.resize(count);
      ERNE_CHECK(stored->stored->bytes == count * sizeof(float), "{}", name);
      convert_to_f32(stored->stored->data, DType::kF32, numbers.data(), count);
    }
  }
  return overlay;
}

nlohmann::ordered_json calibration_identity(const CalibrationOptions& options) {
  Hash128 hash;
  for (const std::vector<int32_t>& sample : options.samples)
    hash = hash128(sample.data(), sample.size() * sizeof(int32_t), hash);
  return {{"method", calibration_name(options.method)},
          {"dtype", dtype_name(options.dtype)},
          {"min_rows", options.min_rows},
          {"samples", options.samples.size()},
          {"hash", fmt::format("{:016x}{:016x}", hash.high, hash.low)}};
}

}  // namespace erne
