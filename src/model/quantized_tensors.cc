#include "model/quantized_tensors.h"

#include <cmath>
#include <utility>

#include "base/error.h"
#include "model/community_tensors.h"
#include "model/paddle_tensors.h"
#include "model/stored_codes.h"
#include "quant/hadamard.h"

namespace erne {
namespace {

[[noreturn]] void corrupt(const SourceTensor& source, const std::string& cause) {
  fail(Code::kCorrupt, "{}: tensor '{}' {}", source.file->string(),
       printable_name(source.stored->info.name), cause);
}

}  // namespace

QuantizedTensors take_quantized(std::vector<SourceTensor>& sources, const TextConfig& config) {
  QuantizedTensors result;
  if (config.quantization.method == QuantizationConfig::Method::kNone) return result;
  if (config.quantization.method == QuantizationConfig::Method::kPaddle)
    return take_paddle(sources, config);
  if (config.quantization.method != QuantizationConfig::Method::kErne)
    return take_community(sources, config);
  std::unordered_map<std::string, StoredCodeParts> found;
  std::vector<SourceTensor> others;
  for (const SourceTensor& source : sources) {
    std::string_view name = source.stored->info.name;
    if (const auto part = find_part(name)) found[std::string(name)].*part = source;
  }
  for (const SourceTensor& source : sources) {
    const TensorInfo& info = source.stored->info;
    std::string_view name = info.name;
    if (find_part(name) != nullptr) continue;
    const auto parts = found.find(info.name);
    const bool words =
        info.dtype == DType::kU16 && parts != found.end() && parts->second.super.has_value();
    if (words || holds_codes(info.dtype)) {
      found[info.name].codes = source;
    } else {
      others.push_back(source);
    }
  }
  std::vector<ExpectedTensor> expected = expected_tensors(config);
  if (config.tie_word_embeddings) {
    // The head may be quantised though the embedding is not.
    expected.push_back(
        {"lm_head.weight", TensorKind::kLinear, config.vocab_size, config.hidden_size});
  }
  for (const ExpectedTensor& tensor : expected) {
    const auto it = found.find(tensor.name);
    if (it == found.end()) continue;
    const StoredCodeParts& parts = it->second;
    if (!parts.codes) corrupt(parts.any(), "has no codes beside it");
    if (tensor.kind != TensorKind::kLinear) corrupt(*parts.codes, "may not be quantised");
    result.emplace(tensor.name, open_codes(parts, tensor));
    found.erase(it);
  }
  if (!found.empty()) {
    corrupt(found.begin()->second.any(), "has no place in the model that config.json describes");
  }
  sources = std::move(others);
  return result;
}

float code_value(const CodeFormat& format, int8_t code, float scale, float min) {
  const float value = format.type == CodeType::kFp8 ? to_f32(f8e4m3{static_cast<uint8_t>(code)})
                                                    : static_cast<float>(code);
  return std::fma(scale, value, min);
}

void unrotate(const CodeFormat& format, std::span<float> row) {
  // The weight of x is H times that of x H: H is symmetric.
  if (format.rotation > 1) hadamard(row.data(), static_cast<int64_t>(row.size()), format.rotation);
}

void dequantize_row(const CodeRows& rows, int64_t row, float* dst) {
  const auto cols = static_cast<size_t>(rows.cols());
  const auto groups = static_cast<size_t>(rows.format().groups(rows.cols()));
  const size_t group = rows.format().group == 0 ? cols : static_cast<size_t>(rows.format().group);
  std::vector<int8_t> codes(cols);
  std::vector<float> scales(groups);
  std::vector<float> mins(groups, 0.0F);
  rows.read(row, codes.data(), scales.data(), mins.data());
  for (size_t i = 0; i < cols; ++i)
    dst[i] = code_value(rows.format(), codes[i], scales[i / group], mins[i / group]);
  unrotate(rows.format(), {dst, cols});
}

}  // namespace erne
