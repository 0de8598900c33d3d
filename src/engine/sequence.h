// A live request inside the engine: one Sequence a choice, with its tokens, its pages and its
// half-told text.
//
// Engine thread only, once the request has passed the mailbox.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/output.h"
#include "engine/prefix_cache.h"
#include "engine/request.h"

namespace erne {

struct LiveRequest;

/// How often each token has been seen, for the penalties. Built when first needed.
class TokenCounts {
 public:
  struct Entry {
    int32_t id;
    int32_t in_output;  ///< occurrences; 0 for a token of the prompt alone
  };
  void add_prompt(int32_t id) { at(id); }
  void add_output(int32_t id) { ++at(id).in_output; }
  const std::vector<Entry>& entries() const { return entries_; }
  bool empty() const { return entries_.empty(); }

 private:
  Entry& at(int32_t id) {
    const auto [slot, fresh] = index_.try_emplace(id, entries_.size());
    if (fresh) entries_.push_back({id, 0});
    return entries_[slot->second];
  }
  std::unordered_map<int32_t, size_t> index_;
  std::vector<Entry> entries_;
};

/// One choice of a request. Keys and values of tokens[0 … computed) are in the cache, in `blocks`.
struct Sequence {
  Sequence(LiveRequest& owner, int index, const Tokenizer* tokenizer, const Request& source)
      : request(&owner), choice(index), tokens(source.prompt_ids), text(tokenizer, source) {}

  LiveRequest* request;
  int choice;
  std::vector<int32_t> tokens;  ///< prompt, then output
  int64_t computed = 0;
  int64_t prefill_end = 0;  ///< tokens.size() when it was last admitted
  std::vector<int32_t> blocks;
  size_t num_shared = 0;              ///< leading blocks that are the prefix cache's
  PrefixCache::Node* node = nullptr;  ///< the locked node that holds them
  bool running = false;
  int num_retractions = 0;
  TokenCounts counts;
  OutputText text;
  int emitted = 0;  ///< output tokens that the sink has seen
  bool prompt_logprobs_sent = false;
  std::optional<Finish> finish;

  int64_t size() const { return static_cast<int64_t>(tokens.size()); }
  int64_t remaining() const { return size() - computed; }
  int generated() const;
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

  int64_t prompt_len() const { return static_cast<int64_t>(request.prompt_ids.size()); }
  bool wants_prompt_logprobs() const {
    return request.prompt_logprobs && static_cast<int64_t>(prompt_logprobs.size()) < prompt_len();
  }
};

inline int Sequence::generated() const { return static_cast<int>(size() - request->prompt_len()); }

}  // namespace erne
