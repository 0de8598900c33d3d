#include "engine/scheduler.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/error.h"
#include "base/rng.h"

namespace erne {
namespace {

constexpr double kMaxExpectedOutput =
    4096;  // of a request's remaining output, in the admission budget
constexpr double kInitialRatio = 0.7;
constexpr double kLowestRatioShare = 0.14;
constexpr double kRatioDecaySteps = 600;
constexpr int kMaxPrefillStreak = 4;  // prefill steps in a row while others wait to decode
constexpr int64_t kSharedPrefix =
    32;  // uncached tokens in common that make one request wait for another
constexpr size_t kMaxPrefixSort = 128;  // waiting requests up to which lpm looks every prefix up
constexpr int kMaxSkipped = 128;        // waiting requests that one step passes over

double initial_ratio(double conservativeness) {
  return std::min(kInitialRatio * conservativeness, 1.0);
}

}  // namespace

Scheduler::Scheduler(const EngineOptions& options, BlockPool& pool, PrefixCache& cache,
                     const Clock& clock, Ledger& ledger)
    : options_(options),
      pool_(pool),
      cache_(cache),
      clock_(clock),
      ledger_(ledger),
      page_(options.page_size),
      ratio_(initial_ratio(options.schedule_conservativeness)) {}

void Scheduler::add(std::unique_ptr<LiveRequest> request) {
  for (Sequence& sequence : request->choices) waiting_.push_back(&sequence);
  requests_[request->request.id] = std::move(request);
}

void Scheduler::abort(std::string_view prefix, const Finish& finish) {
  // Those that wait leave the queue in one pass: it may be long.
  std::erase_if(waiting_,
                [&](const Sequence* s) { return s->request->request.id.starts_with(prefix); });
  for (const auto& [id, request] : requests_) {
    if (!id.starts_with(prefix)) continue;
    for (Sequence& sequence : request->choices) {
      if (!sequence.finish) finish_sequence(sequence, finish);
    }
  }
}

const std::vector<Piece>& Scheduler::schedule() {
  pieces_.clear();
  prefixes_in_step_.clear();
  retracted_in_step_ = false;
  prompt_rows_left_ = kMaxPromptRows;
  ++steps_;
  if (idle()) ratio_ = initial_ratio(options_.schedule_conservativeness);

  const bool decoders = has_decoders();
  const bool owes_decode =
      decoders && !options_.enable_mixed_chunk && prefill_streak_ >= kMaxPrefillStreak;
  if (options_.enable_mixed_chunk) add_decodes();
  const size_t num_decodes = pieces_.size();
  if (!owes_decode) add_prefills();
  const bool prefills = pieces_.size() > num_decodes;
  if (pieces_.empty()) add_decodes();
  prefill_streak_ = prefills && decoders ? prefill_streak_ + 1 : 0;
  return pieces_;
}

int64_t Scheduler::decode_seq_lens() const {
  int64_t sum = 0;
  for (const Sequence* s : running_) {
    if (s->remaining() == 1) sum += s->size();
  }
  return sum;
}

bool Scheduler::has_decoders() const {
  return std::any_of(running_.begin(), running_.end(),
                     [](const Sequence* s) { return s->remaining() == 1; });
}

// --- decode

void Scheduler::add_decodes() {
  if (!has_decoders()) return;
  retracted_in_step_ = make_room_for_decodes();
  for (Sequence* sequence : running_) {
    if (sequence->remaining() == 1) plan(*sequence, 1);
  }
  if (!retracted_in_step_) {
    const double start = initial_ratio(options_.schedule_conservativeness);
    ratio_ = std::max(ratio_ - start * (1 - kLowestRatioShare) / kRatioDecaySteps,
                      start * kLowestRatioShare);
  }
}

// Retracts until every decoding sequence can have its next page. Returns whether it had to.
bool Scheduler::make_room_for_decodes() {
  int num_retracted = 0;
  while (true) {
    int64_t needed = 0;
    for (const Sequence* s : running_) {
      if (s->remaining() == 1) needed += pages(s->size()) - static_cast<int64_t>(s->blocks.size());
    }
    if (needed <= available_blocks()) break;
    if (running_.size() == 1) {
      end(*running_.front(), Finish{FinishReason::kLength, {}, {}});
      break;
    }
    retract(*choose_victim());
    ++num_retracted;
  }
  if (num_retracted > 0) update_ratio_after_retraction(num_retracted);
  return num_retracted > 0;
}

// The least output is lost; among equals, the longest prompt frees most.
Sequence* Scheduler::choose_victim() const {
  return *std::min_element(running_.begin(), running_.end(),
                           [](const Sequence* a, const Sequence* b) {
                             return std::pair(a->generated(), -a->request->prompt_len()) <
                                    std::pair(b->generated(), -b->request->prompt_len());
                           });
}

void Scheduler::retract(Sequence& victim) {
  std::erase(running_, &victim);
  release(victim);
  victim.running = false;
  ++victim.num_retractions;
  victim.retracted = true;
  ++num_retracted_;
  ++totals_.retractions;
  totals_.retracted_prompt_tokens += static_cast<uint64_t>(victim.request->prompt_len());
  totals_.retracted_output_tokens += static_cast<uint64_t>(victim.generated());
  const auto later = [](const Sequence* a, const Sequence* b) {
    return std::pair(a->request->serial, a->choice) < std::pair(b->request->serial, b->choice);
  };
  waiting_.insert(std::upper_bound(waiting_.begin(), waiting_.end(), &victim, later), &victim);
}

// It runs again, or has ended.
void Scheduler::forget_retraction(Sequence& sequence) {
  if (sequence.retracted) --num_retracted_;
  sequence.retracted = false;
}

void Scheduler::update_ratio_after_retraction(int num_retracted) {
  double generated = 0;
  double planned = 0;
  for (const Sequence* s : running_) {
    generated += s->generated();
    planned += static_cast<double>(s->request->max_new_tokens);
  }
  ratio_ = std::min(1.0, (generated + 20.0 * num_retracted) / (planned + 1));
}

// --- prefill

void Scheduler::add_prefills() {
  int64_t budget = options_.max_prefill_tokens;
  if (options_.chunked_prefill_size > 0)
    budget = std::min<int64_t>(budget, options_.chunked_prefill_size);
  // Decode tokens ride within the chunk, but a full batch of them must not stop prompts for ever.
  budget = std::max(budget - static_cast<int64_t>(pieces_.size()), std::min(budget, page_));
  if (!continue_partial(budget) || retracted_in_step_) return;

  order_waiting();
  size_t kept = 0;
  size_t next = 0;
  int skipped = 0;
  for (; next < waiting_.size(); ++next) {
    Sequence& sequence = *waiting_[next];
    if (budget <= 0 || num_running() >= options_.max_running_requests || skipped >= kMaxSkipped)
      break;
    if (must_wait(sequence)) {
      waiting_[kept++] = &sequence;
      ++skipped;
      continue;
    }
    if (!start(sequence, budget)) break;
    if (sequence.remaining() > pieces_.back().count) budget = 0;  // cut: nothing may follow it
  }
  for (; next < waiting_.size(); ++next) waiting_[kept++] = waiting_[next];
  waiting_.resize(kept);
}

// The sequence whose prompt was cut goes on. Returns whether others may start in this step.
bool Scheduler::continue_partial(int64_t& budget) {
  const auto found = std::find_if(running_.begin(), running_.end(),
                                  [](const Sequence* s) { return s->remaining() > 1; });
  if (found == running_.end()) return true;
  Sequence& sequence = **found;
  const int64_t count = chunk_of(sequence, budget);
  if (count == 0) return false;
  if (shares_pages(*sequence.request))
    prefixes_in_step_.push_back(prefix_key(sequence, sequence.computed));
  plan(sequence, count);
  budget -= count;
  return count == sequence.remaining();
}

void Scheduler::order_waiting() {
  if (waiting_.size() < 2) return;
  switch (options_.schedule_policy) {
    case SchedulePolicy::kFcfs:
      return;  // kept in order of arrival by add() and retract()
    case SchedulePolicy::kLongestPrefix: {
      const auto by_arrival = [](const Sequence* a, const Sequence* b) {
        return std::pair(a->request->serial, a->choice) < std::pair(b->request->serial, b->choice);
      };
      std::sort(waiting_.begin(), waiting_.end(), by_arrival);
      if (waiting_.size() > kMaxPrefixSort) return;
      std::vector<std::pair<int64_t, Sequence*>> keyed;
      for (Sequence* s : waiting_) {
        keyed.emplace_back(
            may_match(*s) ? cache_.match_length(s->request->request.cache_salt, matchable(*s)) : 0,
            s);
      }
      std::stable_sort(keyed.begin(), keyed.end(),
                       [](const auto& a, const auto& b) { return a.first > b.first; });
      for (size_t i = 0; i < keyed.size(); ++i) waiting_[i] = keyed[i].second;
      return;
    }
    case SchedulePolicy::kLongestOutput:
      std::stable_sort(waiting_.begin(), waiting_.end(), [](const Sequence* a, const Sequence* b) {
        return a->request->max_new_tokens > b->request->max_new_tokens;
      });
      return;
    case SchedulePolicy::kRandom:
      for (size_t i = waiting_.size(); i > 1; --i) {
        std::swap(waiting_[i - 1], waiting_[philox(options_.random_seed, steps_, i)[0] % i]);
      }
      return;
  }
}

// A choice waits until choice 0 has computed their prompt; a request waits while another one in
// this step computes a prefix that both need, and finds it in the cache a step later.
bool Scheduler::must_wait(const Sequence& sequence) {
  if (sequence.choice > 0 && !sequence.request->prompt_ready) return true;
  if (options_.disable_radix_cache || !may_match(sequence)) return false;
  const int64_t matched =
      cache_.match_length(sequence.request->request.cache_salt, matchable(sequence));
  if (sequence.size() - matched <= std::max(kSharedPrefix, page_)) return false;
  const Hash128 key = prefix_key(sequence, matched);
  if (std::find(prefixes_in_step_.begin(), prefixes_in_step_.end(), key) != prefixes_in_step_.end())
    return true;
  prefixes_in_step_.push_back(key);
  return false;
}

Hash128 Scheduler::prefix_key(const Sequence& sequence, int64_t matched) const {
  const std::string& salt = sequence.request->request.cache_salt;
  const int64_t end = std::min(sequence.size(), matched + std::max(kSharedPrefix, page_));
  const Hash128 head = hash128(salt.data(), salt.size(), {static_cast<uint64_t>(matched), 0});
  // Hashing from the start keeps apart what differs before `matched`.
  return hash128(sequence.tokens().data(), static_cast<size_t>(end) * sizeof(int32_t), head);
}

// Admits a waiting sequence with its first chunk, if the budgets hold it.
bool Scheduler::start(Sequence& sequence, int64_t& budget) {
  attach_prefix(sequence);
  const int64_t count = chunk_of(sequence, budget);
  const double needed = static_cast<double>(sequence.remaining()) + expected_output(sequence);
  const double free_tokens = static_cast<double>(available_blocks() * page_) - reserved_tokens();
  if (count == 0 || (!running_.empty() && needed > free_tokens)) {
    release(sequence);
    return false;
  }
  LiveRequest& request = *sequence.request;
  const auto found = static_cast<uint64_t>(sequence.computed);
  if (request.queue_s < 0) {
    request.queue_s = clock_.now_s() - request.submitted_s;
    request.cached_tokens = sequence.computed;
    totals_.cached_tokens += found;
    ledger_.dequeue(request.queued_tokens());
  }
  if (!request.request.hidden) totals_.prefill_cached_tokens += found;
  forget_retraction(sequence);
  sequence.begin();
  running_.push_back(&sequence);
  sequence.running = true;
  sequence.prefill_end = sequence.size();
  plan(sequence, count);
  budget -= count;
  return true;
}

// How many of its next tokens fit the budget and the pool: all, or up to a page border, so that the
// pages can be shared.
int64_t Scheduler::chunk_of(const Sequence& sequence, int64_t budget) const {
  const bool whole = options_.chunked_prefill_size <= 0;
  int64_t limit = budget;
  const bool first_prefill = pieces_.empty() || pieces_.back().sequence->remaining() == 1;
  if (whole && first_prefill) limit = std::numeric_limits<int64_t>::max() / 2;
  if (sequence.request->wants_prompt_logprobs()) limit = std::min(limit, prompt_rows_left_);
  const int64_t held = static_cast<int64_t>(sequence.blocks.size()) * page_;
  const int64_t room = held + available_blocks() * page_ - sequence.computed;
  limit = std::min(limit, room);
  if (sequence.remaining() <= limit) return sequence.remaining();
  if (whole && !sequence.request->wants_prompt_logprobs() && limit < room) return 0;
  const int64_t aligned = (sequence.computed + limit) / page_ * page_ - sequence.computed;
  if (aligned > 0) return aligned;
  return first_prefill ? std::max<int64_t>(limit, 0) : 0;
}

double Scheduler::expected_output(const Sequence& sequence) const {
  const auto left = static_cast<double>(sequence.request->max_new_tokens - sequence.generated());
  return std::min(left, kMaxExpectedOutput) * ratio_;
}

// Tokens that the running sequences will still want.
double Scheduler::reserved_tokens() const {
  double reserved = 0;
  for (const Sequence* s : running_) {
    const int64_t held = static_cast<int64_t>(s->blocks.size()) * page_;
    reserved += static_cast<double>(std::max<int64_t>(s->size() - held, 0)) + expected_output(*s);
  }
  return reserved;
}

// --- pages

void Scheduler::plan(Sequence& sequence, int64_t count) {
  take_blocks(sequence, sequence.computed + count);
  int64_t rows = sequence.computed + count == sequence.size() ? 1 : 0;
  if (sequence.request->wants_prompt_logprobs() && sequence.choice == 0) {
    rows = count;
    prompt_rows_left_ -= count;
  }
  pieces_.push_back({&sequence, static_cast<int32_t>(count), static_cast<int32_t>(rows)});
}

void Scheduler::take_blocks(Sequence& sequence, int64_t num_tokens) {
  const int64_t missing = pages(num_tokens) - static_cast<int64_t>(sequence.blocks.size());
  if (missing > pool_.num_free()) cache_.evict(static_cast<int32_t>(missing - pool_.num_free()));
  for (int64_t i = 0; i < missing; ++i) sequence.blocks.push_back(pool_.take());
}

// Without the cache, the choices of one request still share their prompt, in a name space that dies
// with the request. A hidden request leaves nothing behind.
bool Scheduler::shares_pages(const LiveRequest& request) const {
  if (request.request.hidden) return false;
  return !options_.disable_radix_cache || request.request.n > 1;
}

// Prompt logprobs need the logits of every prompt token, which cached pages do not have.
bool Scheduler::may_match(const Sequence& sequence) const {
  const LiveRequest& request = *sequence.request;
  return shares_pages(request) && !(sequence.choice == 0 && request.wants_prompt_logprobs());
}

// At least one token must be computed to give logits.
std::span<const int32_t> Scheduler::matchable(const Sequence& sequence) const {
  return sequence.tokens().first(static_cast<size_t>(sequence.size()) - 1);
}

void Scheduler::attach_prefix(Sequence& sequence) {
  if (!may_match(sequence)) return;
  const PrefixCache::Match match =
      cache_.match(sequence.request->request.cache_salt, matchable(sequence), sequence.blocks);
  if (match.node == nullptr) return;
  cache_.lock(match.node);
  sequence.node = match.node;
  sequence.num_shared = sequence.blocks.size();
  sequence.computed = match.tokens;
}

// Hands full pages to the tree, and moves the sequence onto the tree's copy where there is one
// already.
void Scheduler::share_pages(Sequence& sequence) {
  const auto full = static_cast<size_t>(sequence.computed / page_);
  if (!shares_pages(*sequence.request) || full <= sequence.num_shared) return;
  const auto tokens = sequence.tokens().first(full * static_cast<size_t>(page_));
  const PrefixCache::Match match =
      cache_.insert(sequence.request->request.cache_salt, tokens,
                    std::span(sequence.blocks).first(full), sequence.num_shared);
  if (match.node == nullptr) return;
  cache_.lock(match.node);
  if (sequence.node != nullptr) cache_.unlock(sequence.node);
  sequence.node = match.node;
  sequence.num_shared = static_cast<size_t>(match.tokens / page_);
}

void Scheduler::release(Sequence& sequence) {
  for (size_t i = sequence.num_shared; i < sequence.blocks.size(); ++i)
    pool_.give_back(sequence.blocks[i]);
  if (sequence.node != nullptr) cache_.unlock(sequence.node);
  sequence.blocks.clear();
  sequence.num_shared = 0;
  sequence.node = nullptr;
  sequence.computed = 0;
}

// --- after a step

void Scheduler::advance(const Piece& piece) {
  Sequence& sequence = *piece.sequence;
  const bool prefill = sequence.computed < sequence.prefill_end;
  sequence.computed += piece.count;
  if (!prefill) return;
  if (!sequence.request->request.hidden)
    totals_.prefill_tokens += static_cast<uint64_t>(piece.count);
  share_pages(sequence);
  if (sequence.choice == 0 && sequence.computed >= sequence.request->prompt_len())
    sequence.request->prompt_ready = true;
}

void Scheduler::end(Sequence& sequence, Finish finish) {
  if (!sequence.running) std::erase(waiting_, &sequence);
  finish_sequence(sequence, std::move(finish));
}

// `sequence` is not in the queue any more.
void Scheduler::finish_sequence(Sequence& sequence, Finish finish) {
  sequence.finish = std::move(finish);
  forget_retraction(sequence);
  if (sequence.running) {
    if (sequence.finish->reason != FinishReason::kError) share_pages(sequence);
    release(sequence);
    std::erase(running_, &sequence);
    sequence.running = false;
  }
  sequence.drop_tokens();
  if (sequence.choice == 0) sequence.request->prompt_ready = true;
  ended_.push_back(&sequence);
}

void Scheduler::fail_all(const std::string& message) {
  // An exception may have come between two changes of the lists: a sequence can be in both, or in
  // none. Whatever has not ended ends here, once.
  for (const auto& [id, request] : requests_) {
    for (Sequence& sequence : request->choices) {
      if (sequence.finish) continue;
      release(sequence);
      forget_retraction(sequence);
      sequence.running = false;
      sequence.finish = Finish{FinishReason::kError, {}, message};
      sequence.drop_tokens();
      ended_.push_back(&sequence);
    }
  }
  running_.clear();
  waiting_.clear();
  cache_.clear();
}

void Scheduler::close(LiveRequest& request) {
  if (request.queue_s < 0) ledger_.dequeue(request.queued_tokens());
  ledger_.leave(request.request.id);
  if (options_.disable_radix_cache) cache_.drop_space(request.request.cache_salt);
}

void Scheduler::remove(const LiveRequest& request) {
  requests_.erase(std::string(request.request.id));
}

}  // namespace erne
