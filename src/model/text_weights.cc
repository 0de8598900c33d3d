// Checkpoint names (spec text.md 2.1) to packed weights. Packing reads the mapped file once,
// straight into the device's layout.
#include "model/text_weights.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <memory>
#include <string>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/progress.h"
#include "model/checkpoint.h"
#include "model/packed_weights.h"
#include "model/quantized_rows.h"
#include "model/quantized_tensors.h"

namespace erne {
namespace {

// What a load does with the weights.
enum class Action {
  kPack,
  kCount,  // adds up the bytes, reads nothing
};

// A packed folder's weights are read where they lie or copied, for the whole model.
// A device with several memory nodes copies, so that each has the rows that its threads read.
WeightPlace weight_place(const PackedWeights& packed, std::optional<WeightPlace> wanted,
                         const Device& device) {
  if (!wanted && device.info().memory_nodes > 1) wanted = WeightPlace::kCopied;
  if (wanted == WeightPlace::kCopied) return WeightPlace::kCopied;
  bring_in_pages(packed.data.data(), packed.data.size());
  return wanted.value_or(has_huge_pages(packed.data.data()) ? WeightPlace::kMapped
                                                            : WeightPlace::kCopied);
}

// The rows of a linear while it is packed.
struct Blocks {
  std::vector<MatrixView> numbers;                     // of the file, or of `held`
  std::vector<std::shared_ptr<const CodeRows>> codes;  // where it is quantised, also from numbers
  std::deque<std::vector<float>> held;                 // numbers that no file has
};

class Loader {
 public:
  Loader(const Checkpoint& checkpoint, Device& device, const LoadOptions& options, Action action,
         const WeightOverlay* overlay = nullptr, LinearSink sink = {})
      : checkpoint_(checkpoint),
        config_(checkpoint.config()),
        device_(device),
        options_(options),
        action_(action),
        overlay_(overlay),
        sink_(std::move(sink)) {
    const PackedWeights* packed = checkpoint.packed();
    if (packed != nullptr && action == Action::kPack)
      place_ = weight_place(*packed, options.place, device);
  }

  LayerWeights layer(int index) {
    LayerWeights w;
    attention_half(index, w);
    feed_forward_half(index, w);
    return w;
  }

  void attention_half(int index, LayerWeights& w) {
    const std::string prefix = fmt::format("model.layers.{}.", index);
    w.input_norm = constants(prefix + "input_layernorm.weight", config_.hidden_size);
    w.attention = attention(prefix + "self_attn.");
  }

  void feed_forward_half(int index, LayerWeights& w) {
    const std::string prefix = fmt::format("model.layers.{}.", index);
    w.post_attention_norm =
        constants(prefix + "post_attention_layernorm.weight", config_.hidden_size);
    if (config_.is_moe_layer(index)) {
      w.moe = moe(prefix + "mlp.");
    } else {
      w.mlp = mlp(prefix + "mlp.", config_.intermediate_size, config_.use_bias);
    }
  }

  MlpWeights mlp(const std::string& prefix, int64_t intermediate, bool has_bias) {
    MlpWeights w;
    w.gate_up =
        linear(prefix, "up_gate_proj", {{"gate_proj", intermediate}, {"up_proj", intermediate}},
               config_.hidden_size, LinearKind::kGateUp, has_bias);
    w.down = linear(prefix, "down_proj", {{"down_proj", config_.hidden_size}}, intermediate,
                    LinearKind::kPlain, has_bias);
    return w;
  }

  Linear lm_head() {
    const int64_t vocab = config_.vocab_size;
    // Only the MoE class gives its head a bias, tied or not, so its presence decides (spec
    // text.md 2.1).
    std::vector<float> bias;
    if (config_.use_bias && checkpoint_.has("lm_head.bias"))
      bias = checkpoint_.vector("lm_head.bias", vocab);
    return pack("lm_head", {{"lm_head.weight", vocab}}, config_.hidden_size, LinearKind::kPlain,
                bias);
  }

  Embedding embedding() {
    const MatrixView table = embedding_rows();
    bytes_ += device_.embedding_bytes(table);
    return action_ == Action::kCount ? Embedding{} : device_.pack_embedding(table);
  }

  Buffer constants(const std::string& name, int64_t size) {
    const std::vector<float> values = vector(name, size);
    return action_ == Action::kCount ? Buffer() : device_.upload(values);
  }

  uint64_t bytes() const { return bytes_; }
  bool is_mapped() const { return place_ == WeightPlace::kMapped; }
  /// Linears whose parts had different formats.
  int num_mixed() const { return num_mixed_; }
  /// Linears that became numbers because their groups are scattered.
  int num_scattered() const { return num_scattered_; }

 private:
  struct Part {
    std::string name;
    int64_t rows;
  };

  MatrixView embedding_rows() const {
    return checkpoint_.matrix("model.embed_tokens.weight", config_.vocab_size, config_.hidden_size);
  }

  AttentionWeights attention(const std::string& prefix) {
    AttentionWeights w;
    w.qkv = linear(prefix, "qkv_proj",
                   {{"q_proj", config_.q_size()},
                    {"k_proj", config_.kv_size()},
                    {"v_proj", config_.kv_size()}},
                   config_.hidden_size, LinearKind::kPlain, config_.use_bias);
    w.o = linear(prefix, "o_proj", {{"o_proj", config_.hidden_size}}, config_.q_size(),
                 LinearKind::kPlain, config_.use_bias);
    return w;
  }

  MoeWeights moe(const std::string& prefix) {
    MoeWeights w;
    const int64_t experts = config_.num_experts;
    gate(prefix, w);
    w.correction_bias = constants(prefix + "moe_statics.e_score_correction_bias", experts);
    std::vector<Linear> gate_up;
    std::vector<Linear> down;
    for (int64_t e = 0; e < experts; ++e) {
      MlpWeights expert =
          mlp(fmt::format("{}experts.{}.", prefix, e), config_.moe_intermediate_size, false);
      gate_up.push_back(std::move(expert.gate_up));
      down.push_back(std::move(expert.down));
    }
    if (action_ == Action::kPack && !sink_) {
      w.gate_up = device_.group_experts(std::move(gate_up));
      w.down = device_.group_experts(std::move(down));
    }
    if (config_.num_shared_experts > 0) {
      w.shared = mlp(prefix + "shared_experts.",
                     config_.num_shared_experts * config_.moe_intermediate_size, config_.use_bias);
    }
    return w;
  }

  // --- the checkpoint's tensors, or what stands in for them
  std::vector<float> vector(const std::string& name, int64_t size) const {
    if (overlay_ != nullptr) {
      if (const auto it = overlay_->numbers.find(name); it != overlay_->numbers.end())
        return it->second;
    }
    return checkpoint_.vector(name, size);
  }

  std::shared_ptr<const CodeRows> codes(const std::string& name) const {
    if (overlay_ != nullptr) {
      if (const auto it = overlay_->codes.find(name); it != overlay_->codes.end())
        return it->second;
    }
    return checkpoint_.codes(name);
  }

  void gate(const std::string& prefix, MoeWeights& w) {
    const int64_t experts = config_.num_experts;
    std::vector<float> values(static_cast<size_t>(experts * config_.hidden_size));
    bytes_ += values.size() * sizeof(float);
    if (action_ == Action::kCount) return;
    const std::string name = prefix + "gate.weight";
    if (overlay_ != nullptr && overlay_->numbers.contains(name)) {
      values = overlay_->numbers.at(name);
    } else {
      const MatrixView gate = checkpoint_.matrix(name, experts, config_.hidden_size);
      for (int64_t e = 0; e < experts; ++e)
        read_row_f32(gate, e, values.data() + e * config_.hidden_size);
    }
    w.gate_data = device_.upload(values);
    w.gate = {w.gate_data.data(), DType::kF32, {experts, config_.hidden_size}};
  }

  // `name`: of the parts together.
  Linear linear(const std::string& prefix, const char* name, std::vector<Part> parts, int64_t cols,
                LinearKind kind, bool has_bias) {
    std::vector<float> bias;
    for (Part& part : parts) {
      part.name = prefix + part.name;
      if (has_bias) {
        const std::vector<float> values = vector(part.name + ".bias", part.rows);
        bias.insert(bias.end(), values.begin(), values.end());
      }
      part.name += ".weight";
    }
    return pack(prefix + name, parts, cols, kind, bias);
  }

  MatrixView numbers(const Part& part, int64_t cols) const {
    if (part.name == "lm_head.weight" && config_.tie_word_embeddings) return embedding_rows();
    return checkpoint_.matrix(part.name, part.rows, cols);
  }

  // Parts of one linear need one format. Where a file mixes them (a GGUF recipe with another type
  // for v than for q), all are rounded to 8 bits in groups of 32, closer than any of them. Where
  // every column of a part has a scale of its own (GPTQ's activation order), all become numbers.
  Blocks blocks(const std::vector<Part>& parts, int64_t cols) {
    Blocks result;
    bool same = true;
    for (const Part& part : parts) {
      const auto rows = codes(part.name);
      if (rows != nullptr) result.codes.push_back(rows);
      same = same && (rows != nullptr) == (codes(parts.front().name) != nullptr) &&
             (rows == nullptr || rows->format() == result.codes.front()->format());
    }
    for (const auto& rows : result.codes) {
      if (rows->format().group == 1) return dequantised(parts, cols);
    }
    if (same && !result.codes.empty()) return result;
    result.codes.clear();
    num_mixed_ += same ? 0 : 1;
    for (const Part& part : parts) {
      std::optional<WeightScheme> scheme =
          options_.quantization.scheme(part.name, config_.is_moe());
      if (!same) scheme = WeightScheme{WeightScheme::Method::kInt8, 32};
      const auto rows = codes(part.name);
      if (rows != nullptr) {
        result.codes.push_back(quantize_rows(rows, *scheme));
        continue;
      }
      result.numbers.push_back(numbers(part, cols));
      if (scheme) result.codes.push_back(quantize_rows(result.numbers.back(), *scheme));
    }
    return result;
  }

  Blocks dequantised(const std::vector<Part>& parts, int64_t cols) {
    Blocks result;
    ++num_scattered_;
    for (const Part& part : parts) {
      const auto rows = codes(part.name);
      if (rows == nullptr) {
        result.numbers.push_back(numbers(part, cols));
        continue;
      }
      std::vector<float>& held = result.held.emplace_back();
      if (action_ == Action::kPack) {
        held.resize(static_cast<size_t>(part.rows * cols));
        for (int64_t r = 0; r < part.rows; ++r) dequantize_row(*rows, r, held.data() + r * cols);
      }
      result.numbers.push_back({held.data(), DType::kF32, part.rows, cols, cols, 1});
    }
    return result;
  }

  Linear pack(const std::string& name, const std::vector<Part>& parts, int64_t cols,
              LinearKind kind, std::span<const float> bias) {
    int64_t n = 0;
    for (const Part& part : parts) n += part.rows;
    if (checkpoint_.packed() != nullptr) return open(name, n, cols, kind, bias);
    const Blocks rows = blocks(parts, cols);
    std::vector<const CodeRows*> codes;
    for (const auto& block : rows.codes) codes.push_back(block.get());
    if (action_ == Action::kCount) {
      Linear w;
      w.n = n;
      w.k = cols;
      w.dtype = options_.dtype;
      w.kind = kind;
      if (!codes.empty()) {
        w.codes = codes.front()->format();
        w.input_absmax = common_absmax(codes);
      }
      const size_t size = data_bytes(w);
      bytes_ += bias.size_bytes() + size;
      if (sink_) sink_(name, w, size);
      return {};
    }
    if (!codes.empty()) check_inputs(codes.front()->format(), parts.front().name);
    const Inputs inputs = options_.inputs.value_or(Inputs::kFull);
    Linear w = codes.empty() ? device_.pack_linear(rows.numbers, options_.dtype, kind, bias)
                             : device_.pack_codes(codes, options_.dtype, inputs, kind, bias);
    bytes_ += w.bytes();
    // The file's pages have been read for good (the embedding's come back when tokens ask for
    // them): they need not stand beside the packed weights.
    if (!rows.held.empty() || !checkpoint_.is_mapped()) return w;
    for (const MatrixView& view : rows.numbers) {
      release_pages(static_cast<const std::byte*>(view.data),
                    static_cast<size_t>(view.rows * view.cols) * dtype_bytes(view.dtype));
    }
    if (sink_) {
      sink_(name, w, w.data.size());
      return {};
    }
    return w;
  }

  // Inputs of 8 bits are part of some schemes.
  void check_inputs(const CodeFormat& format, const std::string& name) const {
    if (format.inputs == Inputs::kFull || options_.inputs != Inputs::kFull) return;
    fail(Code::kInvalidArgument,
         "--act-dtype bf16: the scheme of {} in {} means inputs of 8 bits; leave the flag out, or "
         "quantise the model to wint8 or wint4",
         name, checkpoint_.folder().string());
  }

  size_t data_bytes(const Linear& w) const {
    return w.codes ? device_.code_bytes(w.n, w.k, *w.codes, w.kind)
                   : device_.linear_bytes(w.n, w.k, w.dtype, w.kind);
  }

  // A linear of a packed folder.
  Linear open(const std::string& name, int64_t n, int64_t k, LinearKind kind,
              std::span<const float> bias) {
    const PackedWeights& packed = *checkpoint_.packed();
    const std::string where =
        fmt::format("{}: packed weight '{}'", checkpoint_.folder().string(), name);
    const auto it = packed.linears.find(name);
    if (it == packed.linears.end()) fail(Code::kCorrupt, "{} is missing", where);
    PackedWeight w = it->second;
    if (w.n != n || w.k != k || w.kind != kind)
      fail(Code::kCorrupt, "{} is [{}, {}], config.json asks for [{}, {}]", where, w.n, w.k, n, k);
    if (w.layout != device_.weight_layout(w.dtype, w.codes)) {
      fail(Code::kUnsupported,
           "{} has the layout '{}' (packed on {}), this machine ({}) reads '{}'. Pack the model "
           "for it: "
           "{}",
           where, w.layout, packed.device, device_.info().detail,
           device_.weight_layout(w.dtype, w.codes), packed.command());
    }
    const size_t size = w.codes ? device_.code_bytes(n, k, *w.codes, kind)
                                : device_.linear_bytes(n, k, w.dtype, kind);
    if (packed_size(size) != w.data.size()) {
      fail(Code::kCorrupt, "{} has {} bytes, {} are needed", where, w.data.size(),
           packed_size(size));
    }
    w.data = w.data.first(size);
    if (w.codes) check_inputs(*w.codes, name);
    bytes_ += size + bias.size_bytes();
    if (action_ == Action::kCount) return {};
    Linear linear = device_.open_linear(w, options_.inputs.value_or(packed.inputs), place_, bias);
    if (place_ == WeightPlace::kCopied) release_pages(w.data.data(), w.data.size());
    return linear;
  }

  const Checkpoint& checkpoint_;
  const TextConfig& config_;
  Device& device_;
  const LoadOptions& options_;
  Action action_;
  const WeightOverlay* overlay_;
  LinearSink sink_;
  WeightPlace place_ = WeightPlace::kCopied;
  uint64_t bytes_ = 0;
  int num_mixed_ = 0;
  int num_scattered_ = 0;
};

// A packed folder is what it was made; how inputs are rounded is still free.
void check_packed_options(const Checkpoint& checkpoint, const Device& device,
                          const LoadOptions& options) {
  const PackedWeights& packed = *checkpoint.packed();
  if (device.weight_layout(options.dtype, {}).empty()) {
    fail(Code::kUnsupported,
         "{} is packed for the CPU ({}), and device {} cannot use it; name the folder that it was "
         "packed from: {}",
         checkpoint.folder().string(), packed.device, device.info().name, packed.source);
  }
  if (!options.quantization.empty() || options.dtype != packed.dtype) {
    fail(
        Code::kInvalidArgument,
        "{} is packed with {}, so it cannot be loaded in {} with --quantization {}; leave --dtype, "
        "--quantization and --mixed out, or pack it anew: erne convert --pack {} OUT …",
        checkpoint.folder().string(), packed.flags, dtype_name(options.dtype),
        options.quantization.text(), packed.source);
  }
  if (options.inputs == Inputs::kInt8 && !packed.has_codes()) {
    fail(Code::kInvalidArgument,
         "--act-dtype int8 is about quantised weights, and {} has none: it is packed with {}",
         checkpoint.folder().string(), packed.flags);
  }
}

// Options that would have no effect are refused.
void check_options(const Checkpoint& checkpoint, const Device& device, const LoadOptions& options) {
  if (options.dtype != DType::kF32 && options.dtype != DType::kBF16) {
    fail(Code::kUnsupported, "cannot compute in {}: use float32 or bfloat16",
         dtype_name(options.dtype));
  }
  if (checkpoint.packed() != nullptr) return check_packed_options(checkpoint, device, options);
  if (options.place) {
    fail(Code::kInvalidArgument,
         "--mmap is about packed folders (erne convert --pack), and {} is not one",
         checkpoint.folder().string());
  }
  const bool quantized = !checkpoint.config().quant_method.empty();
  if (quantized && !options.quantization.empty()) {
    fail(Code::kInvalidArgument,
         "{} is quantised already, so it cannot become {}; leave --quantization and --mixed out, "
         "or start from the unquantised model",
         checkpoint.folder().string(), options.quantization.text());
  }
  check_plan(options.quantization, checkpoint.config());
  if (!quantized && options.quantization.empty() && options.inputs == Inputs::kInt8) {
    fail(Code::kInvalidArgument,
         "--act-dtype int8 is about quantised weights; add --quantization wint8, or name a "
         "quantised model");
  }
}

}  // namespace

// float32 power, then float32 reciprocal: computing in float64 moves 18 of 64 entries by one ulp.
std::vector<float> rope_inv_freq(int head_dim, double theta) {
  std::vector<float> inv_freq;
  for (int j = 0; j < head_dim; j += 2) {
    const float exponent = static_cast<float>(j) / static_cast<float>(head_dim);
    inv_freq.push_back(1.0F / std::pow(static_cast<float>(theta), exponent));
  }
  return inv_freq;
}

LayerWeights load_layer_half(const Checkpoint& checkpoint, Device& device,
                             const LoadOptions& options, int layer, LayerHalf half,
                             const WeightOverlay& overlay) {
  Loader loader(checkpoint, device, options, Action::kPack, &overlay);
  LayerWeights w;
  if (half == LayerHalf::kAttention) {
    loader.attention_half(layer, w);
  } else {
    loader.feed_forward_half(layer, w);
  }
  return w;
}

MlpWeights load_mlp(const Checkpoint& checkpoint, Device& device, const LoadOptions& options,
                    const MlpPlace& place) {
  Loader loader(checkpoint, device, options, Action::kPack);
  return loader.mlp(place.prefix, place.width, place.has_bias);
}

uint64_t packed_weight_bytes(const Checkpoint& checkpoint, Device& device,
                             const LoadOptions& options) {
  check_options(checkpoint, device, options);
  Loader loader(checkpoint, device, options, Action::kCount);
  loader.embedding();
  loader.lm_head();
  for (int i = 0; i < checkpoint.config().num_layers; ++i) loader.layer(i);
  return loader.bytes();
}

void visit_linears(const Checkpoint& checkpoint, Device& device, const LoadOptions& options,
                   Visit visit, const LinearSink& sink) {
  check_options(checkpoint, device, options);
  Loader loader(checkpoint, device, options, visit == Visit::kPlan ? Action::kCount : Action::kPack,
                nullptr, sink);
  loader.lm_head();
  for (int i = 0; i < checkpoint.config().num_layers; ++i) loader.layer(i);
}

TextWeights load_text_weights(const Checkpoint& checkpoint, Device& device,
                              const LoadOptions& options) {
  check_options(checkpoint, device, options);
  const TextConfig& config = checkpoint.config();
  TextWeights w;
  w.dtype = options.dtype;
  w.inv_freq = device.upload(rope_inv_freq(config.head_dim, config.rope_theta));
  Loader loader(checkpoint, device, options, Action::kPack);
  Progress progress("loading weights", static_cast<uint64_t>(config.num_layers) + 1,
                    ProgressUnit::kItems, options.show_progress);
  w.embedding = loader.embedding();
  w.lm_head = loader.lm_head();
  progress.add(1);
  for (int i = 0; i < config.num_layers; ++i) {
    w.layers.push_back(loader.layer(i));
    progress.add(1);
  }
  w.norm = loader.constants("model.norm.weight", config.hidden_size);
  w.bytes = loader.bytes();
  w.is_mapped = loader.is_mapped();
  if (loader.num_mixed() > 0) {
    log::info("{} linear weights are stored in parts of different types and were rounded to 8 bits",
              loader.num_mixed());
  }
  if (loader.num_scattered() > 0) {
    log::info(
        "{} linear weights have groups scattered by activation order (desc_act) and are held as {}",
        loader.num_scattered(), dtype_name(options.dtype));
  }
  return w;
}

}  // namespace erne
