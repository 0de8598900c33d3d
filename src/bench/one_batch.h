// `erne bench one-batch`: one batch through the model runner alone, without scheduler and prefix
// cache (spec bench.md 2).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/loaded_model.h"

namespace erne::bench {

struct OneBatchResult {
  double prefill_s = 0;
  std::vector<double> decode_s;  ///< of each step
  double total_s() const;
  double median_decode_s() const;  ///< 0 without decode steps
};

/// A fixed set of sequences over private pages, advanced greedily together.
class OneBatch {
 public:
  /// model outlives this; its pool must hold every prompt plus `output_len`. chunk: most prompt
  /// tokens per step.
  OneBatch(LoadedModel& model, const EngineOptions& options,
           std::vector<std::vector<int32_t>> prompts, int output_len);
  ~OneBatch();

  /// Computes prompt tokens [from, to) of every sequence (to clipped to its length); a sequence
  /// that reaches its end takes its next token. Rows of logits after the last chunk are handed to
  /// `see`, if given.
  using SeeLogits = std::function<void(size_t sequence, std::span<const float> logits)>;
  void prefill(int64_t from, int64_t to, const SeeLogits& see = {});
  /// One token more for every sequence.
  void decode(const SeeLogits& see = {});
  /// Prompt and output of a sequence.
  std::span<const int32_t> tokens(size_t sequence) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Hears of each timed part as it ends.
struct OneBatchObserver {
  std::function<void(double seconds)> prefill;
  std::function<void(int step, double seconds)> decode;
};

/// Prefill, then output_len - 1 decode steps, timed.
OneBatchResult run_one_batch(LoadedModel& model, const EngineOptions& options,
                             std::vector<std::vector<int32_t>> prompts, int output_len,
                             const OneBatchObserver& observer = {});

}  // namespace erne::bench
