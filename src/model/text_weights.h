// The decoder's weights as the device holds them, and their loading from a checkpoint.
#pragma once

#include <cstdint>
#include <optional>
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
  Buffer norm;         ///< f32 [H]
  Linear lm_head;      ///< [V, H]; packed from the embedding when tied
  Buffer inv_freq;     ///< f32 [D / 2], bit-equal to torch (spec text.md 3.4)
  uint64_t bytes = 0;  ///< of everything packed
};

/// Bytes that loading will pack on the device, so that a model that does not fit is refused before.
/// An embedding that the device reads from the mapped file, whose pages the system may drop, does
/// not count.
uint64_t packed_weight_bytes(const Checkpoint& checkpoint, Device& device,
                             const LoadOptions& options);

/// Throws Error naming file, tensor and cause.
TextWeights load_text_weights(const Checkpoint& checkpoint, Device& device,
                              const LoadOptions& options);

}  // namespace erne
