// A step's pieces to logits: builds the ragged Batch and runs it. Runner is the border behind which
// a real model, or for
// `--device null` and the tests a model that hashes its context, does the work.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/clock.h"
#include "device/device.h"
#include "engine/scheduler.h"
#include "tensor/arena.h"

namespace erne {

class TextModel;

class Runner {
 public:
  virtual ~Runner() = default;
  /// Writes keys and values of every token and returns f32 logits [batch.logit_rows.size(),
  /// vocab_size()] in host memory, valid until the next call.
  virtual Tensor forward(const Batch& batch) = 0;
  /// Whether the two below work: the logits stay on a device, which draws the tokens.
  virtual bool draws() const { return false; }
  /// forward(), then one id a draw (Device::draw), valid until the next call.
  virtual std::span<const int32_t> draw(const Batch& /*batch*/, std::span<const Draw> /*draws*/,
                                        std::span<const LogitEdit> /*edits*/) {
    return {};
  }
  /// Rows [first, first + count) of the logits of the last draw(), but for those that had edits;
  /// in host memory until the next call of anything here.
  virtual Tensor drawn_rows(int64_t /*first*/, int64_t /*count*/) { return {}; }
  virtual int64_t vocab_size() const = 0;
  /// When (SystemClock) a forward last got on, at least once a layer; < 0: never, or not told. Any
  /// thread: a long step on a slow machine is not a dead one.
  virtual double last_progress_s() const { return -1; }
};

/// Turns pieces into a Batch; its arrays are reused from step to step.
class BatchBuilder {
 public:
  /// Valid until the next call; the sequences must not change meanwhile.
  Batch build(std::span<const Piece> pieces);

 private:
  std::vector<int32_t> token_ids_, positions_, query_start_, context_len_, block_table_,
      logit_rows_;
};

/// Runs a TextModel on a device. Owns the KV cache and the arena.
class ModelRunner final : public Runner {
 public:
  /// model and device outlive this. max_tokens, max_rows: the usual step, for which the arena is
  /// allocated; a larger one grows it.
  ModelRunner(const TextModel& model, Device& device, KvCache cache, int64_t max_tokens,
              int64_t max_rows);
  Tensor forward(const Batch& batch) override;
  bool draws() const override { return device_.draws(vocab_size()); }
  std::span<const int32_t> draw(const Batch& batch, std::span<const Draw> draws,
                                std::span<const LogitEdit> edits) override;
  Tensor drawn_rows(int64_t first, int64_t count) override;
  int64_t vocab_size() const override;
  double last_progress_s() const override { return progress_s_.load(std::memory_order_relaxed); }

 private:
  void reserve(int64_t num_tokens, int64_t num_rows);
  /// In the device's memory.
  Tensor run(const Batch& batch);

  const TextModel& model_;
  Device& device_;
  KvCache cache_;
  Arena arena_;
  Tensor logits_;  // of the last draw
  int64_t max_tokens_ = 0;
  int64_t max_rows_ = 0;
  SystemClock clock_;
  std::atomic<double> progress_s_{-1};
};

/// Computes nothing but a hash. Its KV cache holds, per position, the token, so the next token
/// proves that the block table led to the right context: a wrong page, a stale page or a lost token
/// changes every later one.
class HashRunner final : public Runner {
 public:
  enum class Reads {
    kWholeContext,  ///< every position, every step: what tests want
    kLastPosition,  ///< the hash so far is stored with the token: constant time, for `--device
                    ///< null`
  };
  enum class Logits {
    kOneHot,  ///< 16 at the hashed token, else 0
    kSpread,  ///< every id from the hash, in [-4, 4): for sampling
  };
  HashRunner(int64_t vocab_size, int32_t num_blocks, int page_size, Reads reads, Logits logits);
  Tensor forward(const Batch& batch) override;
  int64_t vocab_size() const override { return vocab_; }

 private:
  struct Slot {
    int32_t token;
    uint64_t hash;  // of all tokens up to this one
  };
  Slot& slot(const Batch& batch, int64_t sequence, int64_t position);
  void write_logits(uint64_t hash, float* row);

  int64_t vocab_;
  int64_t page_;
  Reads reads_;
  Logits kind_;
  std::vector<Slot> slots_;
  std::vector<float> logits_;
  std::vector<size_t> hot_;  // entries of logits_ that are not 0
};

}  // namespace erne
