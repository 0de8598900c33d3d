#include "model/memory_plan.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <memory>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "device/null_device.h"
#include "model/checkpoint.h"
#include "model/config_keys.h"
#include "model/quantization.h"
#include "model/text_model.h"
#include "model/text_weights.h"

namespace erne {
namespace {

constexpr int64_t kRowAlign = 16;      // bytes; of a row of codes or numbers on a card
constexpr int64_t kStepTokens = 2304;  // a prompt chunk and 256 answers: the engine's usual step
constexpr int64_t kStepRows = 256;

/// Holds nothing and says how large things would be.
class CardSizes final : public NullDevice {
 public:
  size_t linear_bytes(int64_t n, int64_t k, DType dtype, LinearKind) const override {
    return padded(n, k * static_cast<int64_t>(dtype_bytes(dtype)));
  }
  size_t code_bytes(int64_t n, int64_t k, const CodeFormat& f, LinearKind) const override {
    const auto scales = static_cast<size_t>(n * f.groups(k)) * dtype_bytes(f.scale_type);
    if (is_ccq(f.type)) return padded(n, ccq_row_bytes(f.type, k)) + scales;
    const int64_t bits = f.type == CodeType::kInt4 ? 4 : 8;
    return padded(n, (k * bits + 7) / 8) + scales * (f.has_min ? 2 : 1);
  }
  size_t embedding_bytes(const MatrixView& table) const override {
    return static_cast<size_t>(table.rows * table.cols) * dtype_bytes(table.dtype);
  }

 private:
  static size_t padded(int64_t rows, int64_t row_bytes) {
    return static_cast<size_t>(rows * ((row_bytes + kRowAlign - 1) / kRowAlign * kRowAlign));
  }
};

struct Precision {
  const char* name;
  const char* scheme;
  const char* mixed;
  const char* cache_name;
  DType cache;
  bool needs_experts;
};
constexpr std::array<Precision, 8> kPrecisions{{
    {"bfloat16", "none", "", "bfloat16", DType::kBF16, false},
    {"bfloat16", "none", "", "fp8", DType::kF8E4M3, false},
    {"fp8_channel", "fp8_channel", "", "fp8", DType::kF8E4M3, false},
    {"wint8", "wint8", "", "bfloat16", DType::kBF16, false},
    {"wint4", "wint4", "", "bfloat16", DType::kBF16, false},
    {"w4a8", "w4a8", "", "int8", DType::kI8, false},
    {"wint2.5", "wint2.5", "", "int8", DType::kI8, true},
    {"wint2", "wint2", "", "int8", DType::kI8, true},
}};

uint64_t weights(const TextConfig& config, const LoadOptions& load) {
  CardSizes card;
  return packed_weight_bytes(*Checkpoint::shapes(config), card, load);
}

// What one expert more or less of each layer changes, its row of the routers aside.
uint64_t expert_bytes(const TextConfig& config, const LoadOptions& load, uint64_t all) {
  if (!config.is_moe() || config.num_experts == config.moe_top_k) return 0;
  TextConfig fewer = config;
  --fewer.num_experts;
  uint64_t routers = 0;
  for (int i = 0; i < config.num_layers; ++i) {
    if (config.is_moe_layer(i))
      routers += static_cast<uint64_t>(config.hidden_size) * sizeof(float);
  }
  return all - weights(fewer, load) - routers;
}

uint64_t kv_token_bytes(const TextConfig& c, DType cache) {
  const uint64_t row = static_cast<uint64_t>(c.head_dim) * dtype_bytes(cache) +
                       (dtype_bytes(cache) == 1 ? sizeof(bf16) : 0);  // its scale
  return 2 * static_cast<uint64_t>(c.num_layers) * static_cast<uint64_t>(c.kv_heads) * row;
}

MemoryPlan plan(const TextConfig& config, const Precision& p, uint64_t workspace) {
  LoadOptions load{DType::kBF16, false};
  load.quantization = QuantizationPlan::parse(p.scheme, p.mixed);
  MemoryPlan m;
  m.precision = p.name;
  m.cache = p.cache_name;
  m.weight_bytes = weights(config, load);
  m.embedding_bytes = static_cast<uint64_t>(config.vocab_size * config.hidden_size) * sizeof(bf16);
  m.kv_token_bytes = kv_token_bytes(config, p.cache);
  m.workspace_bytes = workspace;
  m.expert_step_bytes = expert_bytes(config, load, m.weight_bytes);
  m.shared_step_bytes = m.weight_bytes - m.embedding_bytes -
                        m.expert_step_bytes * static_cast<uint64_t>(config.num_experts);
  return m;
}

// Those that 2-bit schemes mean.
bool has_late_experts(const TextConfig& config) {
  for (int i = kFirstCcqLayer; i < config.num_layers; ++i) {
    if (config.is_moe_layer(i)) return true;
  }
  return false;
}

/// Smallest or largest number of a list over the modalities, or the number itself.
int64_t pick(const Json& value, bool largest) {
  if (!value.is_array()) return value.get<int64_t>();
  const auto all = value.get<std::vector<int64_t>>();
  return largest ? *std::max_element(all.begin(), all.end())
                 : *std::min_element(all.begin(), all.end());
}

// Spec vision.md 1.4: text fields on top, or in text_config.
Json text_part(const Json& whole) {
  const auto nested = whole.find("text_config");
  Json text = nested != whole.end() && nested->is_object() ? *nested : whole;
  for (const char* key : {"vision_config", "text_config", "im_patch_id", "image_token_id",
                          "rope_scaling", "mlp_layer_types"})
    text.erase(key);
  text["architectures"] = Json::array({"Ernie4_5_MoeForCausalLM"});
  text["model_type"] = "ernie4_5_moe";
  if (const auto rope = text.find("rope_parameters"); rope != text.end() && rope->is_object()) {
    if (const auto theta = rope->find("rope_theta"); theta != rope->end())
      text["rope_theta"] = *theta;
    text.erase("rope_parameters");
  }
  const int64_t last = text.value("num_hidden_layers", int64_t{1}) - 1;
  for (const auto& [key, largest] :
       {std::pair{"moe_layer_start_index", false}, {"moe_layer_end_index", true}}) {
    if (const auto it = text.find(key); it != text.end() && !it->is_null())
      text[key] = std::min(pick(*it, largest), last);
  }
  return text;
}

bool is_vision(const Json& config) {
  return config.contains("vision_config") || config.contains("text_config") ||
         config.contains("im_patch_id");
}

}  // namespace

PlannedConfig load_planned_config(const std::filesystem::path& path) {
  const bool folder = std::filesystem::is_directory(path);
  const std::filesystem::path file = folder ? path / "config.json" : path;
  const std::string text = read_file(file, kMaxConfigBytes);
  const Json json = parse_json(text, file.string(), {});
  if (!json.is_object() || !is_vision(json)) return {TextConfig::parse(text, file.string()), false};
  try {
    return {TextConfig::parse(text_part(json).dump(), file.string() + " (text part)"), true};
  } catch (const Json::exception& e) {
    fail(Code::kInvalidArgument, "{}: {}", file.string(), e.what());
  }
}

std::vector<MemoryPlan> plan_memory(const TextConfig& config) {
  CardSizes card;
  const auto model = TextModel::load(Checkpoint::shapes(config), card, {DType::kBF16, false});
  const uint64_t workspace = model->arena_bytes(kStepTokens, kStepRows);
  std::vector<MemoryPlan> plans;
  for (const Precision& p : kPrecisions) {
    if (!p.needs_experts || has_late_experts(config)) plans.push_back(plan(config, p, workspace));
  }
  return plans;
}

int64_t tokens_that_fit(const MemoryPlan& plan, uint64_t card_bytes, double share) {
  if (plan.weight_bytes >= card_bytes) return 0;
  const double budget = static_cast<double>(card_bytes - plan.weight_bytes) * share -
                        static_cast<double>(plan.workspace_bytes);
  return budget <= 0 ? 0 : static_cast<int64_t>(budget / static_cast<double>(plan.kv_token_bytes));
}

uint64_t parse_bytes(std::string_view text) {
  constexpr std::array<std::pair<std::string_view, double>, 7> kUnits{{{"", 1},
                                                                       {"MB", 1e6},
                                                                       {"GB", 1e9},
                                                                       {"MiB", 0x1p20},
                                                                       {"GiB", 0x1p30},
                                                                       {"TB", 1e12},
                                                                       {"TiB", 0x1p40}}};
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view rest = text.substr(static_cast<size_t>(end - text.data()));
  const auto* const unit =
      std::find_if(kUnits.begin(), kUnits.end(), [&](const auto& u) { return u.first == rest; });
  const bool valid = error == std::errc() && unit != kUnits.end() && number > 0;
  if (!valid || number * unit->second >= 0x1p60) {
    fail(Code::kInvalidArgument, "'{}' is no size of a memory; 139GiB, 80GB or 512MiB are", text);
  }
  return static_cast<uint64_t>(number * unit->second);
}

}  // namespace erne
