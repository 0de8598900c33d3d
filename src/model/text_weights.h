// The decoder's weights as the device holds them, and their loading from a checkpoint.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
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
  Tensor gate;                         ///< f32 [E, H] in gate_data
  std::vector<float> correction_bias;  ///< [E]
  std::vector<Linear> gate_up;         ///< per expert [2 M, H]
  std::vector<Linear> down;            ///< per expert [H, M]
  std::optional<MlpWeights> shared;    ///< one MLP of width S M
};

struct LayerWeights {
  std::vector<float> input_norm;
  std::vector<float> post_attention_norm;
  AttentionWeights attention;
  std::optional<MlpWeights> mlp;  ///< exactly one of mlp and moe
  std::optional<MoeWeights> moe;
};

struct TextWeights {
  DType dtype = DType::kBF16;
  MatrixView embedding;  ///< [V, H] in the mapped checkpoint
  std::vector<LayerWeights> layers;
  std::vector<float> norm;
  Linear lm_head;               ///< [V, H]; packed from the embedding when tied
  std::vector<float> inv_freq;  ///< [D / 2], bit-equal to torch (spec text.md 3.4)
  uint64_t bytes = 0;           ///< of everything packed
  bool is_mapped = false;       ///< linears are pages of a packed folder's file
};

/// Bytes that loading will pack on the device, so that a model that does not fit is refused before.
/// The embedding is read from the mapped file, whose pages the system may drop, and does not count.
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

/// Throws Error naming file, tensor and cause.
TextWeights load_text_weights(const Checkpoint& checkpoint, Device& device,
                              const LoadOptions& options);

}  // namespace erne
