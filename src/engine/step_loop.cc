#include "engine/step_loop.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "base/error.h"
#include "base/log.h"

namespace erne {
namespace {

constexpr double kRateWindow_s = 1.0;

int32_t num_pool_blocks(const EngineOptions& options) {
  return static_cast<int32_t>(options.max_total_tokens.value() / options.page_size);
}

std::span<const float> row_of(const Tensor& logits, int64_t row) {
  const int64_t vocab = logits.dim(1);
  return {logits.ptr<float>() + row * vocab, static_cast<size_t>(vocab)};
}

}  // namespace

StepLoop::StepLoop(const EngineOptions& options, Runner& runner, const Tokenizer* tokenizer,
                   const Clock& clock, Ledger& ledger, std::vector<int32_t> eos_ids)
    : options_(options),
      runner_(runner),
      tokenizer_(tokenizer),
      clock_(clock),
      pool_(num_pool_blocks(options)),
      cache_(pool_, options.page_size),
      scheduler_(options, pool_, cache_, clock, ledger),
      sampler_(runner.vocab_size()),
      eos_ids_(std::move(eos_ids)) {}

void StepLoop::add(std::unique_ptr<LiveRequest> request) {
  if (idle()) {  // the rate says nothing about the time before
    rate_since_s_ = clock_.now_s();
    rate_tokens_ = 0;
  }
  if (!request->request.hidden) {
    ++totals_.requests_total;
    totals_.prompt_tokens_total += static_cast<uint64_t>(request->prompt_len());
  }
  scheduler_.add(std::move(request));
}

void StepLoop::abort(std::string_view prefix, const std::string& message) {
  scheduler_.abort(prefix, Finish{FinishReason::kAbort, {}, message});
}

bool StepLoop::step() {
  const std::vector<Piece>& pieces = scheduler_.schedule();  // which tokens run now
  if (!pieces.empty()) {
    forward(pieces);
    commit(pieces);  // append, finish, free
    ++totals_.steps_total;
  }
  close_ended();
  return !pieces.empty();
}

void StepLoop::forward(const std::vector<Piece>& pieces) {
  const Batch batch = builder_.build(pieces);
  if (!runner_.draws()) {
    logits_ = runner_.forward(batch);
    return;
  }
  list_draws(pieces);
  drawn_ = runner_.draw(batch, draws_.draws(), draws_.edits());
}

// Logprobs are of a row that the host must see anyway.
bool StepLoop::draws_on_device(const Request& request) const {
  return runner_.draws() && !request.logprobs;
}

void StepLoop::list_draws(const std::vector<Piece>& pieces) {
  draws_.clear();
  int32_t row = 0;
  for (const Piece& piece : pieces) {
    row += piece.num_rows;
    if (piece.count == piece.sequence->remaining() &&
        draws_on_device(piece.sequence->request->request))
      draws_.add(row - 1, sample_args(*piece.sequence));
  }
}

// Of the step's logits. Valid until the next call.
Tensor StepLoop::host_rows(int64_t first, int64_t count) {
  if (runner_.draws()) return runner_.drawn_rows(first, count);
  const int64_t vocab = logits_.dim(1);
  return {logits_.ptr<float>() + first * vocab, DType::kF32, {count, vocab}};
}

void StepLoop::commit(const std::vector<Piece>& pieces) {
  int64_t row = 0;
  for (const Piece& piece : pieces) {
    Sequence& sequence = *piece.sequence;
    if (sequence.request->wants_prompt_logprobs() && piece.num_rows > 0)
      add_prompt_logprobs(piece, row);
    scheduler_.advance(piece);
    row += piece.num_rows;
    if (sequence.remaining() == 0) sample(sequence, row - 1);
  }
  measure(
      static_cast<size_t>(std::count_if(touched_.begin(), touched_.end(), [](const Sequence* s) {
        return !s->request->request.hidden;
      })));
}

// Row r of the piece predicts the token after it; the first prompt token has no prediction. A row
// that a device draws from, and may have changed, is behind the prompt's last token.
void StepLoop::add_prompt_logprobs(const Piece& piece, int64_t first_row) {
  LiveRequest& request = *piece.sequence->request;
  const std::vector<int32_t>& prompt = request.request.prompt_ids;
  std::vector<TokenLogprob>& known = request.prompt_logprobs;
  if (known.empty()) known.push_back({prompt.front(), 0, {}});
  const Tensor rows = host_rows(first_row, piece.num_rows);
  for (int32_t r = 0; r < piece.num_rows; ++r) {
    const auto target =
        static_cast<size_t>(piece.sequence->computed + piece.count - piece.num_rows + r + 1);
    if (target < known.size()) continue;  // computed before a retraction
    if (target >= prompt.size()) break;
    known.push_back(
        sampler_.logprob(row_of(rows, r), prompt[target], request.request.top_logprobs));
  }
}

bool StepLoop::ends_text(const Request& request, int32_t id) const {
  const auto& own = request.stop_token_ids;
  if (std::find(own.begin(), own.end(), id) != own.end()) return true;
  return !request.ignore_eos && std::find(eos_ids_.begin(), eos_ids_.end(), id) != eos_ids_.end();
}

// Until min_new_tokens are there, nothing that would end the text may be drawn.
std::span<const int32_t> StepLoop::masked_ids(const Sequence& sequence) {
  const Request& request = sequence.request->request;
  masked_.clear();
  if (sequence.generated() < request.min_new_tokens) {
    masked_ = request.stop_token_ids;
    if (!request.ignore_eos) masked_.insert(masked_.end(), eos_ids_.begin(), eos_ids_.end());
  }
  return masked_;
}

// Valid until the next call.
SampleArgs StepLoop::sample_args(const Sequence& sequence) {
  return {sequence.request->request.sampling,
          sequence.counts,
          masked_ids(sequence),
          sequence.request->seed,
          static_cast<uint64_t>(sequence.choice),
          static_cast<uint64_t>(sequence.size())};
}

// Drawn from that row of the step's logits; nothing if they have no distribution.
std::optional<int32_t> StepLoop::next_id(const Sequence& sequence, int64_t row) {
  if (!draws_on_device(sequence.request->request))
    return sampler_.sample(row_of(host_rows(row, 1), 0), sample_args(sequence));
  const int32_t id = drawn_.front();
  drawn_ = drawn_.subspan(1);
  return id < 0 ? std::nullopt : std::optional(id);
}

void StepLoop::sample(Sequence& sequence, int64_t row) {
  const Request& request = sequence.request->request;
  const std::optional<int32_t> id = next_id(sequence, row);
  if (!id) {
    log::error("request {}: the model gave no finite logits at position {}", request.id,
               sequence.size());
    scheduler_.end(sequence,
                   Finish{FinishReason::kError, {}, "the model gave logits that are not finite"});
    return;
  }
  std::optional<TokenLogprob> logprob;
  if (request.logprobs)
    logprob = sampler_.logprob(row_of(host_rows(row, 1), 0), *id, request.top_logprobs);
  accept(sequence, *id, std::move(logprob));
}

std::optional<Finish> StepLoop::finish_of(const Sequence& sequence, int32_t id) const {
  if (ends_text(sequence.request->request, id)) return Finish{FinishReason::kStop, id, {}};
  if (sequence.generated() >= sequence.request->max_new_tokens)
    return Finish{FinishReason::kLength, {}, {}};
  return std::nullopt;
}

void StepLoop::accept(Sequence& sequence, int32_t id, std::optional<TokenLogprob> logprob) {
  const Request& request = sequence.request->request;
  sequence.append(id);
  if (has_penalties(request.sampling)) sequence.counts.add_output(id);
  std::optional<Finish> finish = finish_of(sequence, id);
  const bool stopped = finish && finish->reason == FinishReason::kStop;
  if (stopped && !request.no_stop_trim) {
    sequence.text.push_silent(id);
  } else if (auto stop = sequence.text.push(id, sequence.generated() >= request.min_new_tokens);
             stop && !stopped) {
    finish = Finish{FinishReason::kStop, std::move(*stop), {}};
  }
  if (logprob) sequence.text.add_logprob(std::move(*logprob));
  touched_.push_back(&sequence);
  if (finish) scheduler_.end(sequence, std::move(*finish));
}

// Requests whose last choice ended: their pages are free and their ids may be used again, before
// anyone is told.
void StepLoop::close_ended() {
  for (; num_closed_ < scheduler_.ended().size(); ++num_closed_) {
    const Sequence& sequence = *scheduler_.ended()[num_closed_];
    LiveRequest& request = *sequence.request;
    if (--request.open_choices > 0) continue;
    if (!request.request.hidden) {
      const bool aborted = sequence.finish->reason == FinishReason::kAbort;
      ++(aborted ? totals_.aborted_total : totals_.finished_total);
    }
    scheduler_.close(request);
  }
}

void StepLoop::publish() {
  // Each entry leaves its list before it is told: should telling fail, fail_all meets no stale one.
  const std::vector<Sequence*> touched = std::exchange(touched_, {});
  for (Sequence* sequence : touched) {
    if (sequence->finish) continue;  // below
    const int unseen = sequence->generated() - sequence->emitted;
    if (sequence->emitted == 0 || unseen >= sequence->request->request.stream_interval) {
      emit(*sequence);
    }
  }
  const std::vector<Sequence*> ended = std::exchange(scheduler_.ended(), {});
  num_closed_ = 0;
  for (Sequence* sequence : ended) {
    emit(*sequence);
    LiveRequest& request = *sequence->request;
    if (++request.told_choices == request.request.n) scheduler_.remove(request);
  }
}

void StepLoop::finish_text(Sequence& sequence) {
  Finish& finish = *sequence.finish;
  const bool by_itself =
      finish.reason == FinishReason::kStop || finish.reason == FinishReason::kLength;
  const bool stops_count =
      by_itself && sequence.generated() >= sequence.request->request.min_new_tokens;
  if (auto stop = sequence.text.finish(stops_count))
    finish = Finish{FinishReason::kStop, std::move(*stop), {}};
}

// Never throws: a request whose output cannot be built or told must not take others with it.
void StepLoop::emit(Sequence& sequence) {
  const LiveRequest& request = *sequence.request;
  try {
    if (sequence.finish) finish_text(sequence);
    request.sink->on_output(next_output(sequence));
  } catch (const std::exception& e) {
    log::error("request {}: an output was lost: {}", request.request.id, e.what());
  }
}

Output StepLoop::next_output(Sequence& sequence) {
  const LiveRequest& request = *sequence.request;
  Output output;
  output.choice = sequence.choice;
  sequence.text.take(output);
  if (sequence.choice == 0 && !sequence.prompt_logprobs_sent) {
    output.prompt_logprobs = request.prompt_logprobs;
    sequence.prompt_logprobs_sent = true;
  }
  output.usage = {static_cast<int>(request.prompt_len()), sequence.generated(),
                  static_cast<int>(request.cached_tokens)};
  output.finish = sequence.finish;
  output.num_retractions = sequence.num_retractions;
  output.queue_s = std::max(request.queue_s, 0.0);
  sequence.emitted = sequence.generated();
  return output;
}

void StepLoop::measure(size_t num_tokens) {
  totals_.generation_tokens_total += num_tokens;
  rate_tokens_ += num_tokens;
  const double now = clock_.now_s();
  if (now - rate_since_s_ < kRateWindow_s) return;
  rate_ = static_cast<double>(rate_tokens_) / (now - rate_since_s_);
  rate_since_s_ = now;
  rate_tokens_ = 0;
}

void StepLoop::fail_all(const std::string& message) {
  touched_.clear();
  scheduler_.fail_all(message);
  close_ended();
}

bool StepLoop::flush_cache() {
  if (!idle()) return false;
  cache_.clear();
  return true;
}

EngineStats StepLoop::stats() const {
  EngineStats s = totals_;
  const int64_t page = options_.page_size;
  s.running = scheduler_.num_running();
  s.queued = scheduler_.num_waiting();
  s.pool_tokens = pool_.num_blocks() * page;
  s.free_tokens = pool_.num_free() * page;
  s.cached_tokens = cache_.evictable_blocks() * page;
  s.used_tokens = s.pool_tokens - s.free_tokens - s.cached_tokens;
  s.locked_nodes = cache_.locked_nodes();
  s.gen_throughput = idle() ? 0 : rate_;
  s.max_running = options_.max_running_requests;
  s.retracted = scheduler_.num_retracted();
  s.decode_seq_lens = scheduler_.decode_seq_lens();
  s.new_token_ratio = scheduler_.new_token_ratio();
  const SchedulerTotals& totals = scheduler_.totals();
  s.cached_tokens_total = totals.cached_tokens;
  s.prefill_tokens_total = totals.prefill_tokens;
  s.prefill_cached_tokens_total = totals.prefill_cached_tokens;
  s.retractions_total = totals.retractions;
  s.retracted_prompt_tokens_total = totals.retracted_prompt_tokens;
  s.retracted_output_tokens_total = totals.retracted_output_tokens;
  s.evicted_tokens_total = cache_.evicted_tokens_total();
  return s;
}

}  // namespace erne
