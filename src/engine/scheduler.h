// Which tokens run in the next step, and who owns the pages (spec serving.md 11).
//
// Waiting queue, running batch, at most one partly prefilled sequence. A step is a list of pieces:
// decode tokens and prefill chunks side by side. Pages are taken when a piece is planned; when they
// run out, the sequences with the least output are retracted: their pages are freed, their tokens
// kept, and they prefill again later without anyone noticing. Engine thread only; time comes from
// the caller's clock.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/hash.h"
#include "engine/block_pool.h"
#include "engine/engine.h"
#include "engine/ledger.h"
#include "engine/prefix_cache.h"
#include "engine/sequence.h"

namespace erne {

/// `count` tokens of one sequence in one step, its next ones; logits are wanted for the last
/// `num_rows` of them.
struct Piece {
  Sequence* sequence;
  int32_t count;
  int32_t num_rows;
};

/// A step asks for at most this many rows of prompt logits (prompt_logprobs), all its prompts
/// together; bounds the logits' memory.
inline constexpr int64_t kMaxPromptRows = 128;

/// Since the start; hidden requests count as retractions only. See EngineStats.
struct SchedulerTotals {
  uint64_t cached_tokens = 0, prefill_tokens = 0, prefill_cached_tokens = 0;
  uint64_t retractions = 0, retracted_prompt_tokens = 0, retracted_output_tokens = 0;
};

class Scheduler {
 public:
  Scheduler(const EngineOptions& options, BlockPool& pool, PrefixCache& cache, const Clock& clock,
            Ledger& ledger);

  void add(std::unique_ptr<LiveRequest> request);
  /// Ends every request whose id starts with `prefix`.
  void abort(std::string_view prefix, const Finish& finish);
  /// Plans the next step; empty if nothing can run. Valid until the next call.
  const std::vector<Piece>& schedule();
  /// The piece has run: its keys and values are in the cache.
  void advance(const Piece& piece);
  /// Ends one sequence and frees its pages; full pages stay in the prefix cache.
  void end(Sequence& sequence, Finish finish);
  /// Ends everything after a failed step; what the step may have half written is not kept.
  void fail_all(const std::string& message);
  /// Sequences that ended since the last call, for their last output.
  std::vector<Sequence*>& ended() { return ended_; }
  /// All choices of the request have ended: frees its id and its name space in the cache.
  void close(LiveRequest& request);
  /// Destroys a closed request.
  void remove(const LiveRequest& request);

  bool idle() const { return waiting_.empty() && running_.empty(); }
  int num_running() const { return static_cast<int>(running_.size()); }
  int num_waiting() const { return static_cast<int>(waiting_.size()); }
  int num_retracted() const { return num_retracted_; }
  /// Lengths of the sequences that decode, added up.
  int64_t decode_seq_lens() const;
  double new_token_ratio() const { return ratio_; }
  const SchedulerTotals& totals() const { return totals_; }

 private:
  void order_waiting();
  void add_decodes();
  bool make_room_for_decodes();
  void add_prefills();
  bool continue_partial(int64_t& budget);
  bool start(Sequence& sequence, int64_t& budget);
  bool must_wait(const Sequence& sequence);
  int64_t chunk_of(const Sequence& sequence, int64_t budget) const;
  void plan(Sequence& sequence, int64_t count);
  void take_blocks(Sequence& sequence, int64_t num_tokens);
  void attach_prefix(Sequence& sequence);
  void release(Sequence& sequence);
  void finish_sequence(Sequence& sequence, Finish finish);
  void share_pages(Sequence& sequence);
  void retract(Sequence& victim);
  void forget_retraction(Sequence& sequence);
  Sequence* choose_victim() const;
  void update_ratio_after_retraction(int num_retracted);
  bool may_match(const Sequence& sequence) const;
  bool shares_pages(const LiveRequest& request) const;
  std::span<const int32_t> matchable(const Sequence& sequence) const;
  Hash128 prefix_key(const Sequence& sequence, int64_t matched) const;
  int64_t pages(int64_t tokens) const { return (tokens + page_ - 1) / page_; }
  int64_t available_blocks() const { return pool_.num_free() + cache_.evictable_blocks(); }
  double expected_output(const Sequence& sequence) const;
  double reserved_tokens() const;
  bool has_decoders() const;

  const EngineOptions& options_;
  BlockPool& pool_;
  PrefixCache& cache_;
  const Clock& clock_;
  Ledger& ledger_;
  const int64_t page_;

  std::unordered_map<std::string, std::unique_ptr<LiveRequest>> requests_;
  std::vector<Sequence*> waiting_;
  std::vector<Sequence*> running_;
  std::vector<Sequence*> ended_;
  std::vector<Piece> pieces_;
  std::vector<Hash128> prefixes_in_step_;
  bool retracted_in_step_ = false;
  int64_t prompt_rows_left_ = 0;  // of kMaxPromptRows, in this step
  int prefill_streak_ = 0;
  uint64_t steps_ = 0;
  double ratio_;
  int num_retracted_ = 0;  // of waiting_
  SchedulerTotals totals_;
};

}  // namespace erne
