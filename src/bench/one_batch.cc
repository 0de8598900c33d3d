#include "bench/one_batch.h"

#include <algorithm>
#include <numeric>

#include "base/clock.h"
#include "base/error.h"

namespace erne::bench {

double OneBatchResult::total_s() const {
  return std::accumulate(decode_s.begin(), decode_s.end(), prefill_s);
}

double OneBatchResult::median_decode_s() const {
  if (decode_s.empty()) return 0;
  std::vector<double> sorted = decode_s;
  std::sort(sorted.begin(), sorted.end());
  const size_t n = sorted.size();
  return n % 2 == 1 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

struct OneBatch::State {
  Runner& runner;
  int64_t chunk;
  std::vector<std::unique_ptr<LiveRequest>> requests;
  BatchBuilder builder;
  std::vector<Piece> pieces;

  // Runs pieces and appends the arg max where a sequence has caught up with its tokens.
  void run(const SeeLogits& see) {
    if (pieces.empty()) return;
    const Tensor logits = runner.forward(builder.build(pieces));
    const int64_t vocab = runner.vocab_size();
    int64_t row = 0;
    for (const Piece& piece : pieces) {
      Sequence& sequence = *piece.sequence;
      sequence.computed += piece.count;
      if (piece.num_rows == 0) continue;
      const std::span<const float> values(logits.ptr<float>() + row++ * vocab,
                                          static_cast<size_t>(vocab));
      if (see) see(static_cast<size_t>(sequence.request->serial), values);
      if (sequence.remaining() == 0) {
        sequence.append(
            static_cast<int32_t>(std::max_element(values.begin(), values.end()) - values.begin()));
      }
    }
    pieces.clear();
  }
};

OneBatch::OneBatch(LoadedModel& model, const EngineOptions& options,
                   std::vector<std::vector<int32_t>> prompts, int output_len)
    : state_(std::make_unique<State>(State{*model.runner,
                                           options.chunked_prefill_size > 0
                                               ? options.chunked_prefill_size
                                               : options.max_prefill_tokens,
                                           {},
                                           {},
                                           {}})) {
  int32_t next_block = 0;
  for (std::vector<int32_t>& prompt : prompts) {
    const auto longest = static_cast<int64_t>(prompt.size()) + output_len;
    Request request;
    request.prompt_ids = std::move(prompt);
    auto live = std::make_unique<LiveRequest>(std::move(request), nullptr, nullptr);
    live->serial = state_->requests.size();
    live->choices[0].begin();
    const int64_t num_blocks = (longest + options.page_size - 1) / options.page_size;
    for (int64_t b = 0; b < num_blocks; ++b) live->choices[0].blocks.push_back(next_block++);
    state_->requests.push_back(std::move(live));
  }
  const int64_t pool = options.max_total_tokens.value();
  if (int64_t{next_block} * options.page_size > pool) {
    fail(Code::kInvalidArgument, "the batch needs {} tokens of KV, the pool holds {}",
         int64_t{next_block} * options.page_size, pool);
  }
}

OneBatch::~OneBatch() = default;

void OneBatch::prefill(int64_t from, int64_t to, const SeeLogits& see) {
  State& s = *state_;
  int64_t planned = 0;
  for (const auto& request : s.requests) {
    Sequence& sequence = request->choices[0];
    const int64_t end = std::min(to, request->prompt_len());
    for (int64_t at = std::max(from, sequence.computed); at < end;) {
      const int64_t count = std::min(s.chunk - planned, end - at);
      at += count;
      planned += count;
      s.pieces.push_back({&sequence, static_cast<int32_t>(count), at == end ? 1 : 0});
      if (planned < s.chunk) continue;
      s.run(see);
      planned = 0;
    }
  }
  s.run(see);
}

void OneBatch::decode(const SeeLogits& see) {
  for (const auto& request : state_->requests)
    state_->pieces.push_back({&request->choices[0], 1, 1});
  state_->run(see);
}

std::span<const int32_t> OneBatch::tokens(size_t sequence) const {
  return state_->requests.at(sequence)->choices[0].tokens();
}

OneBatchResult run_one_batch(LoadedModel& model, const EngineOptions& options,
                             std::vector<std::vector<int32_t>> prompts, int output_len,
                             const OneBatchObserver& observer) {
  const SystemClock clock;
  OneBatch batch(model, options, std::move(prompts), output_len);
  OneBatchResult result;
  double begin_s = clock.now_s();
  batch.prefill(0, options.context_length.value());
  result.prefill_s = clock.now_s() - begin_s;
  if (observer.prefill) observer.prefill(result.prefill_s);
  for (int step = 0; step + 1 < output_len; ++step) {
    begin_s = clock.now_s();
    batch.decode();
    result.decode_s.push_back(clock.now_s() - begin_s);
    if (observer.decode) observer.decode(step, result.decode_s.back());
  }
  return result;
}

}  // namespace erne::bench
