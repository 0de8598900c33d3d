// The two sources of a conversion: strided views of a checkpoint, dequantised blocks of a GGUF
// file.
#include "model/weight_source.h"

#include <array>
#include <charconv>
#include <cstring>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/error.h"
#include "model/quantized_tensors.h"
#include "quant/gguf_codes.h"

namespace erne {
namespace {

class CheckpointSource : public WeightSource {
 public:
  explicit CheckpointSource(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  DType dtype(const ExpectedTensor& tensor) const override {
    if (checkpoint_.codes(tensor.name) != nullptr) return DType::kF32;
    return checkpoint_.dtype(tensor.name);
  }

  void read_rows(const ExpectedTensor& tensor, int64_t begin, int64_t count, DType dtype,
                 std::byte* dst) const override {
    if (const auto codes = checkpoint_.codes(tensor.name)) {
      std::vector<float> row(static_cast<size_t>(tensor.cols));
      const size_t row_bytes = row.size() * dtype_bytes(dtype);
      for (int64_t r = 0; r < count; ++r, dst += row_bytes) {
        dequantize_row(*codes, begin + r, row.data());
        convert_from_f32(row.data(), dtype, dst, row.size());
      }
      return;
    }
    const MatrixView view = checkpoint_.matrix(tensor.name, tensor.rows, tensor.cols);
    if (dtype == this->dtype(tensor)) return copy_rows(view, begin, count, dst);
    std::vector<float> row(static_cast<size_t>(view.cols));
    const size_t row_bytes = row.size() * dtype_bytes(dtype);
    for (int64_t r = 0; r < count; ++r, dst += row_bytes) {
      read_row_f32(view, begin + r, row.data());
      convert_from_f32(row.data(), dtype, dst, row.size());
    }
  }

 private:
  // The same bits, dense. A transposed source is walked along its own rows.
  static void copy_rows(const MatrixView& view, int64_t begin, int64_t count, std::byte* dst) {
    const auto element = static_cast<int64_t>(dtype_bytes(view.dtype));
    const auto* src = static_cast<const std::byte*>(view.data) + begin * view.row_stride * element;
    if (view.col_stride == 1 && (view.row_stride == view.cols || count == 1)) {
      std::memcpy(dst, src, static_cast<size_t>(count * view.cols * element));
      return;
    }
    for (int64_t c = 0; c < view.cols; ++c) {
      for (int64_t r = 0; r < count; ++r) {
        std::memcpy(dst + (r * view.cols + c) * element,
                    src + (r * view.row_stride + c * view.col_stride) * element,
                    static_cast<size_t>(element));
      }
    }
  }

  const Checkpoint& checkpoint_;
};

// A PT tensor inside a GGUF file; expert -1 means the whole tensor.
struct GgufPlace {
  std::string name;
  int64_t expert = -1;
};

struct NamePair {
  std::string_view pt;
  std::string_view gguf;
};

constexpr std::array<NamePair, 3> kTopNames{{{"model.embed_tokens.weight", "token_embd.weight"},
                                             {"model.norm.weight", "output_norm.weight"},
                                             {"lm_head.weight", "output.weight"}}};

// Behind "model.layers.N." and "blk.N.".
constexpr std::array<NamePair, 14> kLayerNames{{
    {"input_layernorm.weight", "attn_norm.weight"},
    {"post_attention_layernorm.weight", "ffn_norm.weight"},
    {"self_attn.q_proj.weight", "attn_q.weight"},
    {"self_attn.k_proj.weight", "attn_k.weight"},
    {"self_attn.v_proj.weight", "attn_v.weight"},
    {"self_attn.o_proj.weight", "attn_output.weight"},
    {"mlp.gate_proj.weight", "ffn_gate.weight"},
    {"mlp.up_proj.weight", "ffn_up.weight"},
    {"mlp.down_proj.weight", "ffn_down.weight"},
    {"mlp.gate.weight", "ffn_gate_inp.weight"},
    {"mlp.moe_statics.e_score_correction_bias", "exp_probs_b.bias"},
    {"mlp.shared_experts.gate_proj.weight", "ffn_gate_shexp.weight"},
    {"mlp.shared_experts.up_proj.weight", "ffn_up_shexp.weight"},
    {"mlp.shared_experts.down_proj.weight", "ffn_down_shexp.weight"},
}};

// Behind "model.layers.N.mlp.experts.E.".
constexpr std::array<NamePair, 3> kExpertNames{{{"gate_proj.weight", "ffn_gate_exps.weight"},
                                                {"up_proj.weight", "ffn_up_exps.weight"},
                                                {"down_proj.weight", "ffn_down_exps.weight"}}};

template <size_t N>
std::string_view lookup(const std::array<NamePair, N>& table, std::string_view pt) {
  for (const NamePair& pair : table) {
    if (pair.pt == pt) return pair.gguf;
  }
  return {};
}

// Cuts the digits off the front of `text`; the caller knows that a number and a dot stand there.
int64_t cut_number(std::string_view& text) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  ERNE_CHECK(error == std::errc{}, "no number in '{}'", text);
  text.remove_prefix(static_cast<size_t>(end - text.data()) + 1);
  return number;
}

GgufPlace gguf_place(std::string_view pt) {
  constexpr std::string_view kLayers = "model.layers.";
  constexpr std::string_view kExperts = "mlp.experts.";
  if (!pt.starts_with(kLayers)) {
    const std::string_view name = lookup(kTopNames, pt);
    if (name.empty()) fail(Code::kUnsupported, "no GGUF name is known for tensor '{}'", pt);
    return {std::string(name), -1};
  }
  std::string_view rest = pt.substr(kLayers.size());
  const int64_t layer = cut_number(rest);
  int64_t expert = -1;
  if (rest.starts_with(kExperts)) {
    rest.remove_prefix(kExperts.size());
    expert = cut_number(rest);
  }
  const std::string_view name = expert < 0 ? lookup(kLayerNames, rest) : lookup(kExpertNames, rest);
  if (name.empty()) fail(Code::kUnsupported, "no GGUF name is known for tensor '{}'", pt);
  return {fmt::format("blk.{}.{}", layer, name), expert};
}

class GgufSource : public WeightSource {
 public:
  GgufSource(const GgufFile& file, const TextConfig& config)
      : file_(file), is_tied_(config.tie_word_embeddings) {
    std::unordered_set<std::string> used;
    for (const ExpectedTensor& tensor : expected_tensors(config)) {
      const GgufPlace place = gguf_place(tensor.name);
      check_shape(tensor, place, config.num_experts);
      used.insert(place.name);
    }
    for (const GgufTensor& tensor : file.tensors()) {
      if (!used.contains(tensor.name)) refuse_extra(tensor);
    }
  }

  DType dtype(const ExpectedTensor& tensor) const override {
    switch (file_.find(gguf_place(tensor.name).name)->type) {
      case GgufType::kF16:
        return DType::kF16;
      case GgufType::kBF16:
        return DType::kBF16;
      default:
        return DType::kF32;
    }
  }

  void read_rows(const ExpectedTensor& tensor, int64_t begin, int64_t count, DType dtype,
                 std::byte* dst) const override {
    const GgufPlace place = gguf_place(tensor.name);
    const GgufTensor& stored = *file_.find(place.name);
    const GgufBlock block = gguf_block(stored.type);
    const int64_t row_bytes = tensor.cols / block.values * block.bytes;
    const int64_t first = (place.expert < 0 ? 0 : place.expert * tensor.rows) + begin;
    const std::byte* src = stored.data + first * row_bytes;
    std::vector<float> row(static_cast<size_t>(tensor.cols));
    for (int64_t r = 0; r < count; ++r, src += row_bytes) {
      dequantize(stored.type, src, row.data(), tensor.cols);
      convert_from_f32(row.data(), dtype, dst, row.size());
      dst += row.size() * dtype_bytes(dtype);
    }
  }

  KeptCodes codes(const ExpectedTensor& tensor) const override {
    if (tensor.kind != TensorKind::kLinear) return {};
    const bool tied_head = is_tied_ && tensor.name == "lm_head.weight";
    const GgufPlace place = gguf_place(tied_head ? "model.embed_tokens.weight" : tensor.name);
    const GgufTensor& stored = *file_.find(place.name);
    const GgufBlock block = gguf_block(stored.type);
    const int64_t bytes = tensor.rows * (tensor.cols / block.values) * block.bytes;
    const std::byte* data = stored.data + (place.expert < 0 ? 0 : place.expert * bytes);
    return {gguf_code_rows(stored.type, {data, static_cast<size_t>(bytes)}, tensor.rows,
                           tensor.cols, place.name),
            gguf_type_name(static_cast<uint32_t>(stored.type))};
  }

 private:
  void check_shape(const ExpectedTensor& tensor, const GgufPlace& place,
                   int64_t num_experts) const {
    const GgufTensor* stored = file_.find(place.name);
    if (stored == nullptr) {
      fail(Code::kCorrupt, "{}: tensor '{}' is missing", file_.what(), place.name);
    }
    std::vector<int64_t> wanted{tensor.rows, tensor.cols};
    if (tensor.kind == TensorKind::kVector || tensor.kind == TensorKind::kCorrection)
      wanted = {tensor.cols};
    if (place.expert >= 0) wanted.insert(wanted.begin(), num_experts);
    std::vector<int64_t> shape = stored->shape;
    while (shape.size() > wanted.size() && shape.front() == 1) shape.erase(shape.begin());
    if (shape == wanted) return;
    fail(Code::kCorrupt,
         "{}: tensor '{}' has shape [{}] (outermost first), the metadata ask for [{}]",
         file_.what(), place.name, fmt::join(stored->shape, ", "), fmt::join(wanted, ", "));
  }

  [[noreturn]] void refuse_extra(const GgufTensor& tensor) const {
    const char* cause = "this model has no such part";
    if (tensor.name.starts_with("rope_freqs")) cause = "scaled RoPE is not supported";
    if (tensor.name.ends_with(".bias")) cause = "biases are not supported here";
    fail(Code::kUnsupported, "{}: tensor '{}': {}", file_.what(), printable_name(tensor.name),
         cause);
  }

  const GgufFile& file_;
  bool is_tied_;
};

}  // namespace

std::unique_ptr<WeightSource> checkpoint_source(const Checkpoint& checkpoint) {
  return std::make_unique<CheckpointSource>(checkpoint);
}

std::unique_ptr<WeightSource> gguf_source(const GgufFile& file, const TextConfig& config) {
  return std::make_unique<GgufSource>(file, config);
}

}  // namespace erne
