// The residual stream of many sequences between two layers: what calibration carries through a
// model, half a layer at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "device/device.h"
#include "model/text_layer.h"
#include "model/text_weights.h"
#include "tensor/arena.h"

namespace erne {

class Checkpoint;

class HiddenStates {
 public:
  /// The embeddings of every token of `samples`, each a sequence of its own. The device computes in
  /// host memory; all must outlive this.
  HiddenStates(const Checkpoint& checkpoint, Device& device,
               std::span<const std::vector<int32_t>> samples, DType dtype);

  int64_t num_tokens() const { return num_tokens_; }

  /// The tokens of every sequence in order, in pieces with the keys and values of those before:
  /// x [T, H] is the piece's part of the stream.
  void for_sequences(const std::function<void(const LayerStep& step, const Tensor& x)>& body);

  /// The normed rows of these tokens in pieces: h [T, H].
  void for_rows(std::span<const float> norm, std::span<const int32_t> rows,
                const std::function<void(Ctx& ctx, const Tensor& h)>& body);

  /// Runs all tokens through half a layer.
  void run(LayerHalf half, const LayerWeights& weights);

 private:
  const TextConfig& config_;
  Device& device_;
  std::span<const std::vector<int32_t>> samples_;
  DType dtype_;
  int64_t num_tokens_ = 0;
  Buffer inv_freq_;
  Buffer stream_;  // f32 [num_tokens, H]
  KvCache cache_;  // of one layer of the longest sample
  Arena arena_;
};

}  // namespace erne
