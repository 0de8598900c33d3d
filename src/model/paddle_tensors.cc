#include "model/paddle_tensors.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <unordered_set>

#include "base/error.h"
#include "model/row_views.h"
#include "quant/ccq.h"
#include "quant/community.h"
#include "quant/hadamard.h"
#include "quant/packing.h"

namespace erne {
namespace {

constexpr std::array<std::string_view, 6> kParts{"quant_weight", "weight_scale", "activation_scale",
                                                 "super_scales", "code_scale",   "code_zp"};
constexpr int32_t kFp8Rotation = 32;
constexpr int64_t kFp8Block = 128;

struct Fusion {
  std::string_view part;
  std::string_view fused;
};
constexpr std::array<Fusion, 5> kFusions{{{"q_proj", "qkv_proj"},
                                          {"k_proj", "qkv_proj"},
                                          {"v_proj", "qkv_proj"},
                                          {"gate_proj", "up_gate_proj"},
                                          {"up_proj", "up_gate_proj"}}};

// The linears of the model under the names of their modules, and under those of fused ones.
struct Module {
  std::vector<ExpectedTensor> parts;  // in row order
};

class Reader {
 public:
  Reader(const std::vector<SourceTensor>& sources, const TextConfig& config) : config_(config) {
    for (const SourceTensor& source : sources) {
      std::string name = source.stored->info.name;
      const size_t dot = name.rfind('.');
      if (dot == std::string::npos ||
          std::find(kParts.begin(), kParts.end(), std::string_view(name).substr(dot + 1)) ==
              kParts.end())
        continue;
      if (name.starts_with("ernie.")) name.replace(0, 6, "model.");
      stored_.emplace(std::move(name), source);
    }
  }

  QuantizedTensors take() {
    QuantizedTensors result;
    for (const auto& [name, module] : modules()) {
      if (!stored_.contains(name + ".quant_weight")) continue;
      int64_t rows = 0;
      for (const ExpectedTensor& part : module.parts) rows += part.rows;
      const std::shared_ptr<const CodeRows> all = open(name, rows, module.parts.front().cols);
      int64_t first = 0;
      for (const ExpectedTensor& part : module.parts) {
        const bool fresh =
            result
                .emplace(part.name, std::make_shared<RowView>(all, all->format(), first, part.rows))
                .second;
        if (!fresh)
          fail(Code::kCorrupt, "'{}' is stored twice, alone and in '{}'", part.name, name);
        first += part.rows;
      }
    }
    for (const auto& [name, source] : stored_) {
      if (used_.contains(name)) continue;
      fail(Code::kCorrupt, "{}: tensor '{}' has no place in the model that config.json describes",
           source.file->string(), printable_name(source.stored->info.name));
    }
    return result;
  }

 private:
  std::unordered_map<std::string, Module> modules() const {
    std::unordered_map<std::string, Module> modules;
    for (const ExpectedTensor& tensor : expected_tensors(config_)) {
      if (tensor.kind != TensorKind::kLinear) continue;
      const std::string module = tensor.name.substr(0, tensor.name.size() - 7);  // ".weight"
      modules[module].parts.push_back(tensor);
      for (const Fusion& fusion : kFusions) {
        if (!module.ends_with(fmt::format(".{}", fusion.part))) continue;
        const std::string stem = module.substr(0, module.size() - fusion.part.size());
        modules[fmt::format("{}{}", stem, fusion.fused)].parts.push_back(tensor);
      }
    }
    return modules;
  }

  std::optional<RawTensor> find(const std::string& module, const char* part) {
    const auto it = stored_.find(fmt::format("{}.{}", module, part));
    if (it == stored_.end()) return std::nullopt;
    used_.insert(it->first);
    const StoredTensor& tensor = *it->second.stored;
    return RawTensor{
        fmt::format("{}: {}", it->second.file->string(), printable_name(tensor.info.name)),
        tensor.info.dtype,
        tensor.info.shape,
        {tensor.data, static_cast<size_t>(tensor.bytes)}};
  }

  RawTensor get(const std::string& module, const char* part) {
    if (auto tensor = find(module, part)) return *std::move(tensor);
    fail(Code::kCorrupt, "tensor '{}.{}' is missing, though the weight is quantised", module, part);
  }

  std::shared_ptr<const CodeRows> open(const std::string& module, int64_t rows, int64_t cols) {
    const RawTensor weight = get(module, "quant_weight");
    find(module, "activation_scale");  // inputs are not rounded by it
    if (auto super = find(module, "super_scales")) {
      if (weight.dtype == DType::kU16 || weight.dtype == DType::kI16)
        return ccq25_rows({weight, *super}, rows, cols);
      return ccq2_rows({weight, get(module, "weight_scale"), get(module, "code_scale"),
                        get(module, "code_zp"), *super},
                       rows, cols);
    }
    const RawTensor scale = get(module, "weight_scale");
    const bool expert = module.find(".mlp.experts.") != std::string::npos;
    const std::string& type =
        expert ? config_.quantization.expert_type : config_.quantization.dense_type;
    if (type.find("fp8") != std::string::npos) return open_fp8(type, weight, scale, rows, cols);
    if (type == "w4a8") {
      fail(Code::kUnsupported,
           "{}: the layout of Paddle's w4a8 weights is not public; wint8, wint4, fp8 and 2-bit "
           "weights are supported",
           weight.name);
    }
    // Eight bits take a byte a code, four a byte for two.
    const bool eight = weight.data.size() == static_cast<size_t>(rows * cols);
    return paddle_sm80_rows(weight, scale, eight ? 8 : 4, rows, cols);
  }

  std::shared_ptr<const CodeRows> open_fp8(const std::string& type, RawTensor weight,
                                           const RawTensor& scale, int64_t rows, int64_t cols) {
    if (weight.dtype == DType::kF8E4M3) weight.dtype = DType::kU8;
    const int64_t block = type == "block_wise_fp8" ? kFp8Block : 0;
    std::shared_ptr<const CodeRows> codes =
        fp8_stored_rows(weight, scale, {block, block}, rows, cols);
    if (type != "tensor_wise_fp8") return codes;
    check_rotation(cols, kFp8Rotation);
    return with_rotation(std::move(codes), kFp8Rotation);
  }

  const TextConfig& config_;
  std::unordered_map<std::string, SourceTensor> stored_;  // by name, with the prefix "model."
  std::unordered_set<std::string> used_;
};

}  // namespace

QuantizedTensors take_paddle(std::vector<SourceTensor>& sources, const TextConfig& config) {
  QuantizedTensors result = Reader(sources, config).take();
  std::erase_if(sources, [](const SourceTensor& source) {
    const std::string_view name = source.stored->info.name;
    const size_t dot = name.rfind('.');
    return dot != std::string_view::npos &&
           std::find(kParts.begin(), kParts.end(), name.substr(dot + 1)) != kParts.end();
  });
  return result;
}

}  // namespace erne
