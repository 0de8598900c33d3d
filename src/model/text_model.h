// The ERNIE 4.5 decoder, dense and MoE, as ops calls: one description for every device and
// precision (spec text.md 3).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "device/device.h"
#include "model/config.h"
#include "model/quantization.h"
#include "ops/ctx.h"

namespace erne {

class Checkpoint;

struct LoadOptions {
  DType dtype = DType::kBF16;  ///< compute and weight type: kF32 or kBF16
  bool show_progress = false;
  QuantizationPlan quantization = {};  ///< rounds weights that the checkpoint holds as numbers
  /// Of quantised linears; absent: as a packed folder was packed, else as their scheme says.
  std::optional<Inputs> inputs = {};
  /// Type of KvCacheSpec; absent: see resolve_cache_dtype().
  std::optional<DType> cache_dtype = {};
  /// Of a packed folder's linears; absent: mapped where the mapping has huge pages, else copied.
  std::optional<WeightPlace> place = {};
};

/// The type of the KV cache where none is named: what the checkpoint was calibrated for, int8 for
/// weights of w4a8 (W4A8C8), else the type of the computation. Throws Error{kUnsupported} for a
/// float32 cache of another computation.
DType resolve_cache_dtype(const Checkpoint& checkpoint, const LoadOptions& options);

/// Sees the f32 residual stream [T, H] entering layer `layer`, in host memory for as long as the
/// call lasts; layer == num_layers means the state after model.norm.
using HiddenObserver = std::function<void(int layer, const Tensor& hidden)>;

/// Called after each layer: whoever watches a long step knows that it gets on.
using LayerDone = std::function<void()>;

class TextModel {
 public:
  /// Packs all weights; a device of the host's memory leaves the embedding table in the mapped
  /// checkpoint, which the model keeps.
  /// Throws Error naming file, tensor and cause for missing, misshapen or contradicting ones.
  static std::unique_ptr<TextModel> load(std::shared_ptr<const Checkpoint> checkpoint,
                                         Device& device, const LoadOptions& options);

  TextModel(const TextModel&) = delete;
  TextModel& operator=(const TextModel&) = delete;
  ~TextModel();

  const TextConfig& config() const;
  DType dtype() const;
  /// Bytes of all packed weights.
  uint64_t weight_bytes() const;
  /// Those of them that are mapped pages of a packed folder: memory that counts as free elsewhere.
  uint64_t mapped_bytes() const;
  /// Shape of the KV cache that forward() needs, of the type that LoadOptions named.
  KvCacheSpec kv_spec(int block_tokens) const;
  /// Arena bytes that a step of num_tokens tokens and num_logit_rows rows needs, from a dry run.
  size_t arena_bytes(int64_t num_tokens, int64_t num_logit_rows) const;

  /// Runs one step: writes the batch's keys and values to the cache and returns f32 logits
  /// [batch.logit_rows.size(), V] in the device's memory, valid until the arena is reset. Positions
  /// and block tables must be valid (the caller's invariant).
  Tensor forward(Ctx& ctx, const Batch& batch, KvCache& cache, const HiddenObserver& observer = {},
                 const LayerDone& layer_done = {}) const;

 private:
  struct State;
  explicit TextModel(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace erne
