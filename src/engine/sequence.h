// A live request inside the engine: one Sequence a choice, with its tokens, its pages and its
// half-told text.
//
// Engine thread only, once the request has passed the mailbox.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/output.h"
#include "engine/prefix_cache.h"
#include "engine/request.h"

namespace erne {

struct LiveRequest;

/// How often each token has been seen, for the penalties. The prompt's ids belong to the request,
/// so that its choices share them; what is kept here grows with the output alone.
class TokenCounts {
 public:
  struct Entry {
    int32_t id;
    int32_t in_output;  ///< occurrences
    bool in_prompt;
  };
  /// Distinct ids in ascending order; they outlive this. Before the first add_output().
  void set_prompt(std::span<const int32_t> ids) { prompt_ = ids; }
  void add_output(int32_t id) {
    const auto [slot, fresh] = index_.try_emplace(id, entries_.size());
    if (fresh) entries_.push_back({id, 0, std::binary_search(prompt_.begin(), prompt_.end(), id)});
    ++entries_[slot->second].in_output;
  }
  std::span<const int32_t> prompt() const { return prompt_; }
  /// The distinct tokens of the output.
  const std::vector<Entry>& output() const { return entries_; }
  bool in_output(int32_t id) const { return index_.contains(id); }
  bool empty() const { return prompt_.empty() && entries_.empty(); }

 private:
  std::span<const int32_t> prompt_;
  std::unordered_map<int32_t, size_t> index_;
  std::vector<Entry> entries_;
};

/// One choice of a request. Keys and values of its tokens [0, computed) are in the cache, in
/// `blocks`. Until it first runs and after its end it holds no tokens of its own: a request with
/// many choices waits with one copy of its prompt.
struct Sequence {
  Sequence(LiveRequest& owner, int index, const Tokenizer* tokenizer, const Request& source)
      : request(&owner), choice(index), text(tokenizer, source) {}

  LiveRequest* request;
  int choice;
  int64_t computed = 0;
  int64_t prefill_end = 0;  ///< size() when it was last admitted
  std::vector<int32_t> blocks;
  size_t num_shared = 0;              ///< leading blocks that are the prefix cache's
  PrefixCache::Node* node = nullptr;  ///< the locked node that holds them
  bool running = false;
  bool retracted = false;  ///< waits to be computed again
  int num_retractions = 0;
  TokenCounts counts;
  OutputText text;
  int emitted = 0;  ///< output tokens that the sink has seen
  bool prompt_logprobs_sent = false;
  std::optional<Finish> finish;

  /// Prompt, then output. After the end: the prompt.
  std::span<const int32_t> tokens() const;
  int64_t size() const;
  int64_t remaining() const { return size() - computed; }
  int generated() const { return generated_; }

  /// Takes its own copy of the prompt, if it has none yet, and the prompt's ids for the penalties.
  void begin();
  /// begin() came before.
  void append(int32_t id);
  /// Frees what only a living sequence needs.
  void drop_tokens();

 private:
  std::vector<int32_t> tokens_;  // empty: those of the prompt
  int generated_ = 0;
};

struct LiveRequest {
  LiveRequest(Request source, std::shared_ptr<OutputSink> output, const Tokenizer* tokenizer)
      : request(std::move(source)), sink(std::move(output)) {
    choices.reserve(static_cast<size_t>(request.n));  // sequences are pointed to
    for (int i = 0; i < request.n; ++i) choices.emplace_back(*this, i, tokenizer, request);
    open_choices = request.n;
  }
  LiveRequest(const LiveRequest&) = delete;
  LiveRequest& operator=(const LiveRequest&) = delete;

  Request request;
  std::shared_ptr<OutputSink> sink;
  std::vector<Sequence> choices;
  uint64_t serial = 0;  ///< order of arrival
  uint64_t seed = 0;
  int64_t max_new_tokens = 0;
  double submitted_s = 0;
  double queue_s = -1;        ///< < 0: not scheduled yet
  int64_t cached_tokens = 0;  ///< of the prompt, when it was first scheduled
  bool prompt_ready = false;  ///< choice 0 has computed the prompt: the others may start
  int open_choices = 0;
  int told_choices = 0;  ///< whose last output is out
  std::vector<TokenLogprob> prompt_logprobs;
  std::vector<int32_t> distinct_prompt;  ///< of penalised_prompt(), built when first needed

  int64_t prompt_len() const { return static_cast<int64_t>(request.prompt_ids.size()); }
  /// What it weighs in the queue: each choice will hold the prompt.
  int64_t queued_tokens() const { return prompt_len() * request.n; }
  /// Its distinct ids in ascending order, if a repetition penalty needs them; else nothing.
  std::span<const int32_t> penalised_prompt();
  bool wants_prompt_logprobs() const {
    return request.prompt_logprobs && static_cast<int64_t>(prompt_logprobs.size()) < prompt_len();
  }
};

}  // namespace erne
