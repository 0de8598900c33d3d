// The decoder's weights as the device holds them, and their loading from a checkpoint.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "device/device.h"
#include "model/text_model.h"

namespace erne {

struct AttentionWeights {
  Linear qkv;  ///< q, k, v rows stacked: [(N + 2K) D, H]
  Linear o;    ///< [H, N D]
};

struct MlpWeights {
  Linear gate_up;  ///< [2 I, H]
  Linear down;     ///< [H, I]
};

struct MoeWeights {
  Buffer gate_data;
  Tensor gate;                       ///< f32 [E, H] in gate_data
  Buffer correction_bias;            ///< f32 [E]
  Experts gate_up;                   ///< each [2 M, H]
  Experts down;                      ///< each [H, M]
  std::optional<MlpWeights> shared;  ///< one MLP of width S M
};

struct LayerWeights {
  Buffer input_norm;           ///< f32 [H]
  Buffer post_attention_norm;  ///< f32 [H]
  AttentionWeights attention;
  std::optional<MlpWeights> mlp;  ///< exactly one of mlp and moe
  std::optional<MoeWeights> moe;
};

struct TextWeights {
  DType dtype = DType::kBF16;
  Embedding embedding;  ///< [V, H]
  std::vector<LayerWeights> layers;
  Buffer norm;             ///< f32 [H]
  Linear lm_head;          ///< [V, H]; packed from the embedding when tied
  Buffer inv_freq;         ///< f32 [D / 2], bit-equal to torch (spec text.md 3.4)
  uint64_t bytes = 0;      ///< of everything packed
  bool is_mapped = false;  ///< linears are pages of a packed folder's file
};

/// Bytes that loading will pack on the device, so that a model that does not fit is refused before.
/// An embedding that the device reads from the mapped file, whose pages the system may drop, does
/// not count.
uint64_t packed_weight_bytes(const Checkpoint& checkpoint, Device& device,
                             const LoadOptions& options);

/// A linear on its way: its name as in packed_weights.h, the weight, bytes of its data.
using LinearSink = std::function<void(const std::string& name, const Linear& w, size_t bytes)>;
enum class Visit {
  kPlan,  ///< shapes and sizes: w.data is empty
  kPack,  ///< packs one after the other; the sink has it until it returns
};
/// Every linear of the model in one fixed order. Throws Error as load_text_weights does.
void visit_linears(const Checkpoint& checkpoint, Device& device, const LoadOptions& options,
                   Visit visit, const LinearSink& sink);
/// What stands in for tensors of the checkpoint, by PT name.
struct WeightOverlay {
  std::unordered_map<std::string, std::shared_ptr<const CodeRows>> codes;
  std::unordered_map<std::string, std::vector<float>> numbers;  ///< norms, biases, routers

  bool has(const std::string& name) const { return codes.contains(name) || numbers.contains(name); }
};

/// Half of a layer, for calibration: input_norm and attention, or post_attention_norm with mlp or
/// moe. The rest of the result is empty.
enum class LayerHalf { kAttention, kFeedForward };
LayerWeights load_layer_half(const Checkpoint& checkpoint, Device& device,
                             const LoadOptions& options, int layer, LayerHalf half,
                             const WeightOverlay& overlay = {});

/// One MLP of a layer, as the checkpoint has it. prefix: "model.layers.3.mlp.experts.7."; bias:
/// whether its linears have one.
struct MlpPlace {
  std::string prefix;
  int64_t width;  ///< outputs of gate and of up
  bool has_bias;
};
MlpWeights load_mlp(const Checkpoint& checkpoint, Device& device, const LoadOptions& options,
                    const MlpPlace& place);

/// [D / 2], bit-equal to torch (spec text.md 3.4).
std::vector<float> rope_inv_freq(int head_dim, double theta);

/// Throws Error naming file, tensor and cause.
TextWeights load_text_weights(const Checkpoint& checkpoint, Device& device,
                              const LoadOptions& options);

}  // namespace erne
