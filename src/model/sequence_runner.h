// Growing token sequences through a model, in chunks and ragged batches over a paged cache whose
// blocks are shuffled: the driver under `erne verify` and `erne eval`, which need every row of
// logits and no scheduler.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/text_model.h"

namespace erne {

class SequenceRunner {
 public:
  /// Tokens to append to a sequence, and of how many of them, the last ones, logits are wanted.
  struct Piece {
    size_t sequence = 0;
    std::span<const int32_t> ids;  ///< at least one
    int64_t num_rows = 0;
  };

  /// model and device must outlive this. Throws Error{kInvalidArgument} unless block_tokens is 1 to
  /// 4096.
  SequenceRunner(const TextModel& model, Device& device, int block_tokens);

  /// Forgets all sequences and makes room for capacities.size() empty ones: sequence i may grow to
  /// capacities[i] tokens. A step may bring max_tokens tokens and max_rows rows.
  void begin(std::span<const int64_t> capacities, int64_t max_tokens, int64_t max_rows);

  /// One step. Each piece belongs to a sequence of its own. Returns f32 logits [sum of num_rows, V]
  /// in the order of the pieces, valid until the next step.
  Tensor step(std::span<const Piece> pieces, const HiddenObserver& observer = {});

  /// Bytes of cache and workspace that begin() allocates for such sequences.
  static uint64_t bytes(const TextModel& model, Device& device, int block_tokens,
                        std::span<const int64_t> capacities, int64_t max_tokens, int64_t max_rows);

 private:
  struct Sequence {
    std::vector<int32_t> blocks;
    int64_t length = 0;
  };

  void append(const Piece& piece);

  const TextModel& model_;
  Device& device_;
  int block_tokens_;
  KvCache cache_;
  Arena arena_;
  int64_t max_tokens_ = 0, max_rows_ = 0;  // what the arena holds
  int32_t max_blocks_ = 1;
  std::vector<Sequence> sequences_;
  std::vector<float> logits_;  // of the last step, where the device has memory of its own
  std::vector<int32_t> ids_, positions_, start_, context_, table_, rows_;
};

}  // namespace erne
