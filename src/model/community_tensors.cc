#include "model/community_tensors.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "quant/community.h"

namespace erne {
namespace {

using Method = QuantizationConfig::Method;

// The tensors of one linear by what stands behind its name.
class Parts {
 public:
  Parts(const std::unordered_map<std::string_view, SourceTensor>& stored, std::string module)
      : stored_(stored), module_(std::move(module)) {}

  std::optional<RawTensor> find(const char* part) const {
    const auto it = stored_.find(fmt::format("{}.{}", module_, part));
    if (it == stored_.end()) return std::nullopt;
    const StoredTensor& tensor = *it->second.stored;
    return RawTensor{fmt::format("{}: {}", it->second.file->string(), tensor.info.name),
                     tensor.info.dtype,
                     tensor.info.shape,
                     {tensor.data, static_cast<size_t>(tensor.bytes)}};
  }

  RawTensor get(const char* part) const {
    if (auto tensor = find(part)) return *tensor;
    fail(Code::kCorrupt, "tensor '{}.{}' is missing, though the weight is quantised", module_,
         part);
  }

 private:
  const std::unordered_map<std::string_view, SourceTensor>& stored_;
  std::string module_;
};

constexpr std::array kParts{"qweight",
                            "qzeros",
                            "scales",
                            "g_idx",
                            "weight",
                            "weight_packed",
                            "weight_scale",
                            "weight_shape",
                            "weight_zero_point",
                            "weight_scale_inv",
                            "weight_g_idx",
                            "input_scale"};

bool is_quantised(const Parts& parts, Method method) {
  switch (method) {
    case Method::kAwqGemm:
    case Method::kAwqGemv:
    case Method::kGptq:
      return parts.find("qweight").has_value();
    case Method::kPacked:
      return parts.find("weight_packed").has_value();
    default:
      break;
  }
  const auto weight = parts.find("weight");
  if (!weight) return false;
  return weight->dtype == (method == Method::kInt8 ? DType::kI8 : DType::kF8E4M3);
}

std::shared_ptr<const CodeRows> fp8_rows(const Parts& parts, const QuantizationConfig& config,
                                         const ExpectedTensor& tensor) {
  RawTensor weight = parts.get("weight");
  weight.dtype = DType::kU8;
  const auto inverse = parts.find("weight_scale_inv");
  const RawTensor scale = inverse ? *inverse : parts.get("weight_scale");
  return fp8_stored_rows(weight, scale, {config.block_rows, config.block_cols}, tensor.rows,
                         tensor.cols);
}

std::shared_ptr<const CodeRows> open_rows(const Parts& parts, const QuantizationConfig& config,
                                          const ExpectedTensor& tensor) {
  const auto compressed = [&](const char* weight) {
    return CompressedTensors{parts.get(weight), parts.get("weight_scale"),
                             parts.find("weight_zero_point"), parts.find("weight_g_idx")};
  };
  switch (config.method) {
    case Method::kAwqGemm:
    case Method::kAwqGemv:
      return awq_rows({parts.get("qweight"), parts.get("qzeros"), parts.get("scales")},
                      config.method == Method::kAwqGemm ? AwqVersion::kGemm : AwqVersion::kGemv,
                      config.group, tensor.rows, tensor.cols);
    case Method::kGptq:
      return gptq_rows(
          {parts.get("qweight"), parts.get("qzeros"), parts.get("scales"), parts.find("g_idx")},
          {config.bits, config.group, config.zero_minus_one}, tensor.rows, tensor.cols);
    case Method::kPacked:
      return compressed_packed_rows(compressed("weight_packed"), config.bits, config.group,
                                    tensor.rows, tensor.cols);
    case Method::kInt8:
      return compressed_int8_rows(compressed("weight"), config.group, tensor.rows, tensor.cols);
    default:
      return fp8_rows(parts, config, tensor);
  }
}

// What config.json says about a linear and what the folder holds must agree.
[[noreturn]] void refuse_contradiction(const std::string& module, bool is_stored_quantised) {
  if (is_stored_quantised) {
    fail(Code::kCorrupt,
         "tensor '{}' is stored quantised, but quantization_config ignores it or names it in no "
         "target",
         module);
  }
  fail(Code::kCorrupt,
       "tensor '{}' is not stored as quantization_config says: no group's tensors are there, and "
       "it is not in the ignore list",
       module);
}

// How the linear is stored, or null where it is numbers.
const QuantizationConfig* stored_format(const Parts& parts, const std::string& module,
                                        const TextConfig& config) {
  const Method method = config.quantization.method;
  const QuantizationConfig* format = config.quantization.of(module);
  if (method != Method::kCompressed) return is_quantised(parts, method) ? format : nullptr;
  const bool any = is_quantised(parts, Method::kPacked) || is_quantised(parts, Method::kInt8) ||
                   is_quantised(parts, Method::kFp8);
  // The copy of a tied head is not read.
  if (!any && config.tie_word_embeddings && module == "lm_head") return nullptr;
  if (format == nullptr && any) refuse_contradiction(module, true);
  // A linear that the folder does not have at all is missed later, by its name.
  if (format != nullptr && !is_quantised(parts, format->method) && (any || parts.find("weight")))
    refuse_contradiction(module, false);
  return any ? format : nullptr;
}

}  // namespace

QuantizedTensors take_community(std::vector<SourceTensor>& sources, const TextConfig& config) {
  QuantizedTensors result;
  std::unordered_map<std::string_view, SourceTensor> stored;
  for (const SourceTensor& source : sources) stored.emplace(source.stored->info.name, source);
  std::vector<ExpectedTensor> expected = expected_tensors(config);
  if (config.tie_word_embeddings) {
    expected.push_back(
        {"lm_head.weight", TensorKind::kLinear, config.vocab_size, config.hidden_size});
  }
  std::unordered_set<std::string> taken;
  for (const ExpectedTensor& tensor : expected) {
    if (tensor.kind != TensorKind::kLinear) continue;
    const std::string module = tensor.name.substr(0, tensor.name.size() - 7);  // ".weight"
    const Parts parts(stored, module);
    const QuantizationConfig* format = stored_format(parts, module, config);
    if (format == nullptr) continue;
    result.emplace(tensor.name, open_rows(parts, *format, tensor));
    for (const char* part : kParts) taken.insert(fmt::format("{}.{}", module, part));
  }
  std::erase_if(sources, [&](const SourceTensor& source) {
    return taken.contains(source.stored->info.name);
  });
  return result;
}

}  // namespace erne
