// Resolving a layout: which stored tensor, which rows of it and in which orientation give each PT
// tensor (spec text.md 2.4; decided by content, never by the name of the repository).
#include "model/layout.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "base/error.h"

namespace erne {
namespace {

using Wanted = std::unordered_map<std::string, ExpectedTensor>;

class ExpectedList {
 public:
  explicit ExpectedList(const TextConfig& config) : c_(config) {}

  void linear(const std::string& stem, int64_t out, int64_t in, bool with_bias) {
    list_.push_back({stem + ".weight", TensorKind::kLinear, out, in});
    if (with_bias) vector(stem + ".bias", out);
  }
  void vector(std::string name, int64_t size) {
    list_.push_back({std::move(name), TensorKind::kVector, 1, size});
  }
  void add(std::string name, TensorKind kind, int64_t rows, int64_t cols) {
    list_.push_back({std::move(name), kind, rows, cols});
  }

  void mlp(const std::string& stem, int64_t width, bool with_bias) {
    linear(stem + "gate_proj", width, c_.hidden_size, with_bias);
    linear(stem + "up_proj", width, c_.hidden_size, with_bias);
    linear(stem + "down_proj", c_.hidden_size, width, with_bias);
  }

  void layer(const std::string& stem, bool moe) {
    vector(stem + "input_layernorm.weight", c_.hidden_size);
    linear(stem + "self_attn.q_proj", c_.q_size(), c_.hidden_size, c_.use_bias);
    linear(stem + "self_attn.k_proj", c_.kv_size(), c_.hidden_size, c_.use_bias);
    linear(stem + "self_attn.v_proj", c_.kv_size(), c_.hidden_size, c_.use_bias);
    linear(stem + "self_attn.o_proj", c_.hidden_size, c_.q_size(), c_.use_bias);
    vector(stem + "post_attention_layernorm.weight", c_.hidden_size);
    if (!moe) return mlp(stem + "mlp.", c_.intermediate_size, c_.use_bias);
    add(stem + "mlp.gate.weight", TensorKind::kRouter, c_.num_experts, c_.hidden_size);
    add(stem + "mlp.moe_statics.e_score_correction_bias", TensorKind::kCorrection, 1,
        c_.num_experts);
    for (int e = 0; e < c_.num_experts; ++e) {
      mlp(fmt::format("{}mlp.experts.{}.", stem, e), c_.moe_intermediate_size, false);
    }
    if (c_.num_shared_experts > 0) {
      mlp(stem + "mlp.shared_experts.", c_.num_shared_experts * c_.moe_intermediate_size,
          c_.use_bias);
    }
  }

  std::vector<ExpectedTensor> take() { return std::move(list_); }

 private:
  const TextConfig& c_;
  std::vector<ExpectedTensor> list_;
};

bool ends_with_any(std::string_view name, std::span<const std::string_view> suffixes) {
  return std::any_of(suffixes.begin(), suffixes.end(),
                     [&](std::string_view s) { return name.ends_with(s); });
}

void refuse_quantised(const SourceTensor& source) {
  constexpr std::array<std::string_view, 15> kSuffixes{
      ".quant_weight", ".weight_scale",  ".weight_scale_inv", ".activation_scale",
      ".super_scales", ".code_scale",    ".code_zp",          ".in_scale",
      ".input_scale",  ".qweight",       ".qzeros",           ".scales",
      ".g_idx",        ".weight_packed", ".weight_shape"};
  if (!ends_with_any(source.stored->info.name, kSuffixes)) return;
  fail(Code::kUnsupported,
       "{}: tensor '{}' belongs to a quantised checkpoint of a kind that is not supported; use "
       "the bf16 one",
       source.file->string(), printable_name(source.stored->info.name));
}

// Prefix and router spelling of the PT layout; fused and stacked names stay.
std::string canonical_name(std::string_view stored) {
  std::string name(stored);
  if (name.starts_with("ernie.")) name.replace(0, 6, "model.");
  constexpr std::string_view kInMemory = ".mlp.gate.moe_statics.";
  if (const size_t at = name.find(kInMemory); at != std::string::npos) {
    name.replace(at, kInMemory.size(), ".mlp.moe_statics.");
  }
  return name;
}

// A fused tensor's parts in row order, e.g. qkv_proj -> q_proj, k_proj, v_proj.
struct Fusion {
  std::string_view fused;
  std::vector<std::string_view> parts;
};

const std::array<Fusion, 2>& fusions() {
  static const std::array<Fusion, 2> kFusions{
      {{"qkv_proj", {"q_proj", "k_proj", "v_proj"}}, {"up_gate_proj", {"gate_proj", "up_proj"}}}};
  return kFusions;
}

// PT names that a canonical name covers, in row order: one for most tensors, several for a fused
// one.
std::vector<std::string> part_names(const std::string& name) {
  for (const Fusion& fusion : fusions()) {
    for (const std::string_view ending : {".weight", ".bias"}) {
      const std::string suffix = fmt::format(".{}{}", fusion.fused, ending);
      if (!name.ends_with(suffix)) continue;
      const std::string stem = name.substr(0, name.size() - suffix.size() + 1);
      std::vector<std::string> names;
      for (const std::string_view part : fusion.parts)
        names.push_back(fmt::format("{}{}{}", stem, part, ending));
      return names;
    }
  }
  return {name};
}

// T5's in-memory form; both projections of all experts of a layer in one tensor of rank 3.
bool is_stacked(std::string_view name) {
  return name.ends_with(".mlp.experts.gate_up_proj") || name.ends_with(".mlp.experts.down_proj");
}

// Tensors that belong to the architecture, whatever the configuration says about their number.
bool is_model_part(std::string_view name) {
  constexpr std::array<std::string_view, 17> kSuffixes{"layernorm.weight",
                                                       "q_proj.weight",
                                                       "k_proj.weight",
                                                       "v_proj.weight",
                                                       "o_proj.weight",
                                                       "gate_proj.weight",
                                                       "up_proj.weight",
                                                       "down_proj.weight",
                                                       "q_proj.bias",
                                                       "k_proj.bias",
                                                       "v_proj.bias",
                                                       "o_proj.bias",
                                                       "gate_proj.bias",
                                                       "up_proj.bias",
                                                       "down_proj.bias",
                                                       ".mlp.gate.weight",
                                                       ".e_score_correction_bias"};
  return name == "lm_head.bias" ||
         (name.starts_with("model.layers.") && ends_with_any(name, kSuffixes));
}

class Resolver {
 public:
  Resolver(const std::vector<SourceTensor>& sources, const TextConfig& config,
           std::string_view what, const std::unordered_set<std::string>& elsewhere)
      : sources_(sources), config_(config), what_(what), elsewhere_(elsewhere) {}

  ResolvedLayout run() {
    collect_wanted();
    transposed_ = detect_orientation();
    for (const SourceTensor& source : sources_) place(source);
    check_complete();
    result_.layout = stacked_      ? CheckpointLayout::kStacked
                     : transposed_ ? CheckpointLayout::kPaddle
                     : fused_      ? CheckpointLayout::kEarlyPt
                                   : CheckpointLayout::kPt;
    return std::move(result_);
  }

 private:
  // Everything the configuration asks for, and every MTP depth of which the files hold a part.
  void collect_wanted() {
    main_ = expected_tensors(config_);
    for (const ExpectedTensor& tensor : main_) wanted_.emplace(tensor.name, tensor);
    bool has_mtp = false;
    for (const SourceTensor& source : sources_) {
      refuse_quantised(source);
      has_mtp = has_mtp || source.stored->info.name.find(".mtp_") != std::string::npos;
    }
    for (int depth = 0; has_mtp; ++depth) {
      const std::string probe = fmt::format(".mtp_linear_proj.{}.weight", depth);
      has_mtp = std::any_of(sources_.begin(), sources_.end(), [&](const SourceTensor& s) {
        return s.stored->info.name.ends_with(probe);
      });
      if (!has_mtp) break;
      for (ExpectedTensor& tensor : expected_mtp_tensors(config_, depth)) {
        main_.push_back(tensor);
        wanted_.emplace(tensor.name, std::move(tensor));
      }
      ++result_.num_mtp_layers;
    }
  }

  // [out, in] of a canonical name, fused ones included; nullopt for names that are not linear
  // weights of this model.
  std::optional<std::pair<int64_t, int64_t>> linear_shape(const std::string& name) const {
    int64_t out = 0;
    int64_t in = 0;
    for (const std::string& part : part_names(name)) {
      const auto it = wanted_.find(part);
      if (it == wanted_.end()) return std::nullopt;
      const bool linear =
          it->second.kind == TensorKind::kLinear || it->second.kind == TensorKind::kRouter;
      if (!linear) return std::nullopt;
      out += it->second.rows;
      in = it->second.cols;
    }
    return std::pair(out, in);
  }

  // One decision for the whole checkpoint, taken from the first weight whose shape can tell (o_proj
  // is square in the large models, and lm_head and mtp_linear_proj do not follow the rest).
  bool detect_orientation() const {
    bool paddle_names = false;
    for (const SourceTensor& source : sources_) {
      const TensorInfo& info = source.stored->info;
      paddle_names = paddle_names || info.name.starts_with("ernie.");
      const std::string name = canonical_name(info.name);
      if (info.shape.size() != 2 || !name.starts_with("model.layers.")) continue;
      const auto shape = linear_shape(name);
      if (!shape || shape->first == shape->second) continue;
      if (info.shape[0] == shape->first && info.shape[1] == shape->second) return false;
      if (info.shape[0] == shape->second && info.shape[1] == shape->first) return true;
    }
    return paddle_names;
  }

  bool stored_transposed(const std::string& name, const TensorInfo& info) const {
    if (info.shape.size() != 2) return false;
    const auto shape = linear_shape(name);
    if (!shape) return false;
    const bool own_rule =
        name == "lm_head.weight" || name.find(".mtp_linear_proj.") != std::string::npos;
    if (own_rule && shape->first != shape->second) return info.shape[0] != shape->first;
    return transposed_;
  }

  void place(const SourceTensor& source) {
    const TensorInfo& info = source.stored->info;
    const std::string name = canonical_name(info.name);
    if (is_stacked(name)) return place_stacked(source, name);
    const std::vector<std::string> parts = part_names(name);
    if (wanted_.find(parts.front()) == wanted_.end()) return set_aside(source, parts.front());
    check_floating(source);

    int64_t rows = 0;  // of all parts together
    const ExpectedTensor& first = wanted_.at(parts.front());
    const bool vector = first.kind == TensorKind::kVector || first.kind == TensorKind::kCorrection;
    for (const std::string& part : parts) {
      const ExpectedTensor& wanted = wanted_.at(part);
      rows += vector ? wanted.cols : wanted.rows;
    }
    if (vector) return place_vector(source, parts, rows);

    const bool transposed = stored_transposed(name, info);
    const std::vector<int64_t> shape = transposed ? std::vector<int64_t>{first.cols, rows}
                                                  : std::vector<int64_t>{rows, first.cols};
    check_shape(source, shape);
    if (parts.size() > 1) fused_ = true;
    int64_t row = 0;
    for (const std::string& part : parts) {
      const int64_t part_rows = wanted_.at(part).rows;
      MatrixView view{nullptr, info.dtype, part_rows, first.cols, first.cols, 1};
      if (transposed)
        std::tie(view.row_stride, view.col_stride) = std::pair<int64_t, int64_t>(1, rows);
      view.data = at(source, row * view.row_stride);
      add(part, {view, source});
      row += part_rows;
    }
  }

  void place_vector(const SourceTensor& source, const std::vector<std::string>& parts,
                    int64_t size) {
    const TensorInfo& info = source.stored->info;
    // [n] and [1, n] are the same vector; transformers stores the correction bias in the second
    // form.
    const bool row = info.shape.size() == 2 && info.shape[0] == 1;
    check_shape(source, row ? std::vector<int64_t>{1, size} : std::vector<int64_t>{size});
    int64_t start = 0;
    for (const std::string& part : parts) {
      const int64_t n = wanted_.at(part).cols;
      add(part, {{at(source, start), info.dtype, 1, n, n, 1}, source});
      start += n;
    }
  }

  void place_stacked(const SourceTensor& source, const std::string& name) {
    const bool down = name.ends_with(".down_proj");
    const std::string stem = name.substr(0, name.rfind('.') + 1);
    const int64_t h = config_.hidden_size;
    const int64_t m = config_.moe_intermediate_size;
    if (wanted_.find(stem + "0.down_proj.weight") == wanted_.end()) {
      return contradiction(source, "experts where config.json has none");
    }
    check_floating(source);
    check_shape(source, down ? std::vector<int64_t>{config_.num_experts, h, m}
                             : std::vector<int64_t>{config_.num_experts, 2 * m, h});
    stacked_ = true;
    const DType dtype = source.stored->info.dtype;
    for (int e = 0; e < config_.num_experts; ++e) {
      const std::string expert = fmt::format("{}{}.", stem, e);
      if (down) {
        add(expert + "down_proj.weight", {{at(source, e * h * m), dtype, h, m, m, 1}, source});
        continue;
      }
      add(expert + "gate_proj.weight", {{at(source, e * 2 * m * h), dtype, m, h, h, 1}, source});
      add(expert + "up_proj.weight",
          {{at(source, (e * 2 + 1) * m * h), dtype, m, h, h, 1}, source});
    }
  }

  static const std::byte* at(const SourceTensor& source, int64_t element) {
    return source.stored->data +
           element * static_cast<int64_t>(dtype_bytes(source.stored->info.dtype));
  }

  void add(const std::string& name, const LocatedTensor& located) {
    const auto [it, inserted] = result_.tensors.emplace(name, located);
    if (inserted) return;
    const SourceTensor& other = it->second.source;
    fail(Code::kCorrupt, "{}: tensor '{}' gives {}, which '{}' in {} gives too",
         located.source.file->string(), printable_name(located.source.stored->info.name), name,
         printable_name(other.stored->info.name), other.file->filename().string());
  }

  // A name without a place: fine, unknown, or proof that config.json describes another model.
  void set_aside(const SourceTensor& source, const std::string& name) {
    const bool silent = name.find("mtp") != std::string::npos ||
                        name.ends_with("rotary_emb.inv_freq") ||
                        (name == "lm_head.weight" && config_.tie_word_embeddings);
    if (silent) return;
    if (is_model_part(name)) {
      return contradiction(
          source,
          fmt::format("num_hidden_layers {}, moe_num_experts {}, moe_num_shared_experts {}, "
                      "use_bias {}",
                      config_.num_layers, config_.num_experts, config_.num_shared_experts,
                      config_.use_bias));
    }
    result_.unknown.push_back(printable_name(source.stored->info.name));
  }

  void contradiction(const SourceTensor& source, std::string_view config_says) const {
    fail(Code::kCorrupt,
         "{}: tensor '{}' has no place in the model that config.json describes ({})",
         source.file->string(), printable_name(source.stored->info.name), config_says);
  }

  static void check_shape(const SourceTensor& source, const std::vector<int64_t>& wanted) {
    const TensorInfo& info = source.stored->info;
    if (info.shape == wanted) return;
    fail(Code::kCorrupt, "{}: tensor '{}' has shape {}, config.json asks for [{}]",
         source.file->string(), printable_name(info.name), info.shape_text(),
         fmt::join(wanted, ", "));
  }

  static void check_floating(const SourceTensor& source) {
    const TensorInfo& info = source.stored->info;
    constexpr std::array<DType, 5> kFloating{DType::kF32, DType::kF16, DType::kBF16, DType::kF64,
                                             DType::kU16};
    if (std::find(kFloating.begin(), kFloating.end(), info.dtype) != kFloating.end()) return;
    fail(Code::kCorrupt, "{}: tensor '{}' has dtype {}; a floating one is needed",
         source.file->string(), printable_name(info.name), dtype_name(info.dtype));
  }

  void check_complete() const {
    for (const ExpectedTensor& tensor : main_) {
      if (result_.tensors.contains(tensor.name) || elsewhere_.contains(tensor.name)) continue;
      fail(Code::kCorrupt, "{}: tensor '{}' {} is missing", what_, tensor.name,
           TensorInfo{"", DType::kF32, tensor.pt_shape()}.shape_text());
    }
  }

  const std::vector<SourceTensor>& sources_;
  const TextConfig& config_;
  std::string_view what_;
  const std::unordered_set<std::string>& elsewhere_;
  std::vector<ExpectedTensor> main_;
  Wanted wanted_;
  ResolvedLayout result_;
  bool transposed_ = false;
  bool fused_ = false;
  bool stacked_ = false;
};

}  // namespace

std::vector<int64_t> ExpectedTensor::pt_shape() const {
  if (kind == TensorKind::kVector) return {cols};
  return {rows, cols};
}

std::vector<ExpectedTensor> expected_tensors(const TextConfig& config) {
  ExpectedList list(config);
  list.add("model.embed_tokens.weight", TensorKind::kEmbedding, config.vocab_size,
           config.hidden_size);
  for (int i = 0; i < config.num_layers; ++i) {
    list.layer(fmt::format("model.layers.{}.", i), config.is_moe_layer(i));
  }
  list.vector("model.norm.weight", config.hidden_size);
  if (!config.tie_word_embeddings) {
    list.linear("lm_head", config.vocab_size, config.hidden_size, false);
  }
  if (config.use_bias && config.is_moe()) list.vector("lm_head.bias", config.vocab_size);
  return list.take();
}

std::vector<ExpectedTensor> expected_mtp_tensors(const TextConfig& config, int depth) {
  ExpectedList list(config);
  list.vector(fmt::format("model.mtp_emb_norm.{}.weight", depth), config.hidden_size);
  list.vector(fmt::format("model.mtp_hidden_norm.{}.weight", depth), config.hidden_size);
  list.linear(fmt::format("model.mtp_linear_proj.{}", depth), config.hidden_size,
              2 * config.hidden_size, config.use_bias);
  list.layer(fmt::format("model.mtp_block.{}.", depth), config.is_moe_layer(depth));
  return list.take();
}

ResolvedLayout resolve_layout(const std::vector<SourceTensor>& sources, const TextConfig& config,
                              std::string_view what,
                              const std::unordered_set<std::string>& elsewhere) {
  return Resolver(sources, config, what, elsewhere).run();
}

}  // namespace erne
