#include "model/kv_scales.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "base/error.h"

namespace erne {
namespace {

constexpr std::string_view kScale = "_matmul.activation_scale";
constexpr std::string_view kZeroPoint = "_matmul.activation_zero_point";

[[noreturn]] void refuse(Code code, const SourceTensor& source, const std::string& cause) {
  fail(code, "{}: tensor '{}' {}", source.file->string(), printable_name(source.stored->info.name),
       cause);
}

// "model.layers.3.self_attn.cachek" and what follows.
struct Place {
  int layer;
  bool is_key;
};

std::optional<Place> find(std::string_view name) {
  const size_t at = name.find(".self_attn.cache");
  if (at == std::string_view::npos || !(name.ends_with(kScale) || name.ends_with(kZeroPoint)))
    return std::nullopt;
  std::string_view stem = name.substr(0, at);
  const char letter = name[at + 16];
  if (!(stem.starts_with("model.layers.") || stem.starts_with("ernie.layers.")) ||
      (letter != 'k' && letter != 'v'))
    return std::nullopt;
  stem.remove_prefix(13);
  int layer = 0;
  const auto [end, error] = std::from_chars(stem.data(), stem.data() + stem.size(), layer);
  if (error != std::errc{} || end != stem.data() + stem.size()) return std::nullopt;
  return Place{layer, letter == 'k'};
}

// A value for each channel or head, whatever the dimensions.
std::vector<float> read(const SourceTensor& source, const TextConfig& config) {
  const TensorInfo& info = source.stored->info;
  const DType dtype = info.dtype == DType::kU16 ? DType::kBF16 : info.dtype;
  if (dtype != DType::kF32 && dtype != DType::kBF16 && dtype != DType::kF16)
    refuse(Code::kCorrupt, source, fmt::format("is {}; floats are valid", dtype_name(info.dtype)));
  const auto width = static_cast<size_t>(config.kv_size());
  const size_t count = source.stored->bytes / dtype_bytes(dtype);
  if (count != width && count != static_cast<size_t>(config.kv_heads))
    refuse(Code::kCorrupt, source,
           fmt::format("has shape {}; {} channels or {} heads are valid", info.shape_text(), width,
                       config.kv_heads));
  std::vector<float> values(count);
  convert_to_f32(source.stored->data, dtype, values.data(), count);
  for (const float value : values) {
    // Factor and scale are to stay normal numbers of bfloat16.
    if (value == 0 || (value >= 0x1p-60F && value <= 0x1p60F)) continue;
    refuse(Code::kCorrupt, source,
           fmt::format("holds {}; 0 and magnitudes from 2^-60 to 2^60 are valid", value));
  }
  std::vector<float> channels;
  for (size_t i = 0; i < width; ++i) channels.push_back(values[i * count / width]);
  return channels;
}

}  // namespace

std::vector<KvAbsmax> take_kv_scales(std::vector<SourceTensor>& sources, const TextConfig& config) {
  std::vector<KvAbsmax> layers(static_cast<size_t>(config.num_layers));
  const SourceTensor* some = nullptr;
  for (const SourceTensor& source : sources) {
    const std::string_view name = source.stored->info.name;
    const std::optional<Place> place = find(name);
    if (!place) continue;
    if (name.ends_with(kZeroPoint))
      refuse(Code::kUnsupported, source,
             "is a zero point of the KV cache, which is not supported; scales alone are");
    if (place->layer < 0 || place->layer >= config.num_layers)
      refuse(Code::kCorrupt, source, "has no place in the model that config.json describes");
    KvAbsmax& layer = layers[static_cast<size_t>(place->layer)];
    std::vector<float>& values = place->is_key ? layer.keys : layer.values;
    if (!values.empty()) refuse(Code::kCorrupt, source, "is there twice");
    values = read(source, config);
    some = &source;
  }
  if (some == nullptr) return {};
  for (size_t i = 0; i < layers.size(); ++i) {
    if (!layers[i].keys.empty() && !layers[i].values.empty()) continue;
    refuse(Code::kCorrupt, *some,
           fmt::format("has none beside it for {} of layer {}; every layer needs both",
                       layers[i].keys.empty() ? "keys" : "values", i));
  }
  std::erase_if(sources, [](const SourceTensor& source) {
    return find(source.stored->info.name).has_value();
  });
  return layers;
}

}  // namespace erne
