// The engine's loop without its thread: requests in, one step after another, outputs to the sinks.
// Engine runs it; tests drive it step by step with their own clock and model.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "engine/draw_list.h"
#include "engine/engine.h"
#include "engine/ledger.h"
#include "engine/runner.h"
#include "engine/sampler.h"
#include "engine/scheduler.h"

namespace erne {

class StepLoop {
 public:
  /// `options` are resolved: max_total_tokens and context_length are set. All references outlive
  /// this; tokenizer may be null (ids only). eos_ids end a text unless a request ignores them.
  StepLoop(const EngineOptions& options, Runner& runner, const Tokenizer* tokenizer,
           const Clock& clock, Ledger& ledger, std::vector<int32_t> eos_ids);

  void add(std::unique_ptr<LiveRequest> request);
  /// Takes effect with the next step().
  void abort(std::string_view prefix, const std::string& message);
  /// Schedule, forward, sample, commit. False if nothing could run. publish() must follow.
  bool step();
  /// Tells the sinks what the step brought. Apart from step() so that the owner can show its
  /// counters first: who hears of an end finds the pages freed.
  void publish();
  /// Ends every request with kError, after an exception in step(); publish() must follow.
  void fail_all(const std::string& message);
  /// Empties the prefix cache; false if something runs or waits.
  bool flush_cache();

  bool idle() const { return scheduler_.idle(); }
  EngineStats stats() const;
  const PrefixCache& cache() const { return cache_; }

 private:
  void forward(const std::vector<Piece>& pieces);
  void list_draws(const std::vector<Piece>& pieces);
  bool draws_on_device(const Request& request) const;
  Tensor host_rows(int64_t first, int64_t count);
  void commit(const std::vector<Piece>& pieces);
  void add_prompt_logprobs(const Piece& piece, int64_t first_row);
  SampleArgs sample_args(const Sequence& sequence);
  std::optional<int32_t> next_id(const Sequence& sequence, int64_t row);
  void sample(Sequence& sequence, int64_t row);
  void accept(Sequence& sequence, int32_t id, std::optional<TokenLogprob> logprob);
  std::optional<Finish> finish_of(const Sequence& sequence, int32_t id) const;
  std::span<const int32_t> masked_ids(const Sequence& sequence);
  bool ends_text(const Request& request, int32_t id) const;
  void close_ended();
  void finish_text(Sequence& sequence);
  void emit(Sequence& sequence);
  Output next_output(Sequence& sequence);
  void measure(size_t num_tokens);

  const EngineOptions& options_;
  Runner& runner_;
  const Tokenizer* tokenizer_;
  const Clock& clock_;
  BlockPool pool_;
  PrefixCache cache_;
  Scheduler scheduler_;
  BatchBuilder builder_;
  Sampler sampler_;
  Tensor logits_;                   // of the step, where the host draws
  DrawList draws_;                  // else, in the order of the pieces
  std::span<const int32_t> drawn_;  // ids that no sequence has yet
  const std::vector<int32_t> eos_ids_;
  std::vector<int32_t> masked_;
  std::vector<Sequence*> touched_;  // got a token in this step
  size_t num_closed_ = 0;           // of scheduler_.ended()

  EngineStats totals_;
  double rate_since_s_ = 0;
  uint64_t rate_tokens_ = 0;
  double rate_ = 0;
};

}  // namespace erne
