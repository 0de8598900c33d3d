// A StepLoop over the hashing model and a clock that stands still: what most engine tests drive.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/rng.h"
#include "engine/step_loop.h"
#include "engine/validate.h"

namespace erne {

/// Gathers what one choice was told.
struct Told {
  std::vector<int32_t> ids;
  std::string text;
  std::vector<TokenLogprob> logprobs;
  std::vector<TokenLogprob> prompt_logprobs;
  std::optional<Finish> finish;
  Usage usage;
  int num_retractions = 0;
  int num_outputs = 0;
};

class RecordingSink final : public OutputSink {
 public:
  void on_output(Output output) override {
    Told& told = choices[output.choice];
    EXPECT_FALSE(told.finish) << "an output after the last one";
    told.ids.insert(told.ids.end(), output.token_ids.begin(), output.token_ids.end());
    told.text += output.text;
    for (TokenLogprob& l : output.logprobs) told.logprobs.push_back(std::move(l));
    if (told.num_outputs++ == 0) {
      told.prompt_logprobs = std::move(output.prompt_logprobs);
    } else {
      EXPECT_TRUE(output.prompt_logprobs.empty());
    }
    told.finish = std::move(output.finish);
    told.usage = output.usage;
    told.num_retractions = output.num_retractions;
  }
  bool done(int n) const {
    if (static_cast<int>(choices.size()) < n) return false;
    for (const auto& [index, told] : choices) {
      if (!told.finish) return false;
    }
    return true;
  }
  std::map<int, Told> choices;
};

/// Small vocabulary, small pages: borders everywhere.
inline EngineOptions small_options() {
  EngineOptions options;
  options.context_length = 256;
  options.max_total_tokens = 1024;
  options.page_size = 4;
  options.max_running_requests = 8;
  options.chunked_prefill_size = 16;
  options.max_prefill_tokens = 64;
  options.random_seed = 1;
  return options;
}

class LoopFixture {
 public:
  explicit LoopFixture(EngineOptions chosen = small_options(), const Tokenizer* tokenizer = nullptr,
                       int64_t vocab_size = 97,
                       HashRunner::Logits logits = HashRunner::Logits::kSpread)
      : options(std::move(chosen)),
        vocab(vocab_size),
        runner(vocab_size, static_cast<int32_t>(*options.max_total_tokens / options.page_size),
               options.page_size, HashRunner::Reads::kWholeContext, logits),
        ledger(options.max_queued_requests, options.max_queued_tokens),
        loop(options, runner, tokenizer, clock, ledger, {0}),
        tokenizer_(tokenizer) {}

  /// As Engine::submit does.
  std::shared_ptr<RecordingSink> submit(Request request) {
    const int64_t max_new_tokens = validate(request, options, vocab);
    if (request.id.empty()) request.id = "r" + std::to_string(serial_);
    if (options.disable_radix_cache) request.cache_salt = "request " + std::to_string(serial_);
    auto sink = std::make_shared<RecordingSink>();
    auto live = std::make_unique<LiveRequest>(std::move(request), sink, tokenizer_);
    live->serial = serial_++;
    live->seed = live->request.sampling.seed.value_or(live->serial);
    live->max_new_tokens = max_new_tokens;
    live->submitted_s = clock.now_s();
    ledger.enter(live->request.id, live->queued_tokens());
    loop.add(std::move(live));
    return sink;
  }

  /// Steps until nothing is left, checking the books after each step.
  void run(int max_steps = 100000) {
    for (int i = 0; i < max_steps && !loop.idle(); ++i) step();
    ASSERT_TRUE(loop.idle()) << "still busy after " << max_steps << " steps";
  }
  void step() {
    loop.step();
    loop.publish();
    clock.advance(0.001);
    check_books();
  }
  void check_books() const {
    const EngineStats s = loop.stats();
    ASSERT_EQ(s.used_tokens + s.cached_tokens + s.free_tokens, s.pool_tokens);
    ASSERT_GE(s.used_tokens, 0);
    ASSERT_LE(s.running, options.max_running_requests);
    if (!loop.idle()) return;
    ASSERT_EQ(s.used_tokens, 0);
    ASSERT_EQ(s.locked_nodes, 0);
  }

  EngineOptions options;
  int64_t vocab;
  ManualClock clock;
  HashRunner runner;
  Ledger ledger;
  StepLoop loop;

 private:
  const Tokenizer* tokenizer_;
  uint64_t serial_ = 0;
};

/// `count` ids below `vocab`, a pure function of the seed; never 0, the end of text.
inline std::vector<int32_t> random_ids(uint64_t seed, int count, int64_t vocab = 97) {
  std::vector<int32_t> ids;
  for (int i = 0; i < count; ++i) {
    ids.push_back(static_cast<int32_t>(1 + philox(seed, 7, static_cast<uint64_t>(i))[0] %
                                               static_cast<uint64_t>(vocab - 1)));
  }
  return ids;
}

inline Request greedy_request(std::vector<int32_t> prompt, int max_new_tokens) {
  Request request;
  request.prompt_ids = std::move(prompt);
  request.sampling.temperature = 0;
  request.max_new_tokens = max_new_tokens;
  request.ignore_eos = true;
  return request;
}

inline Request sampled_request(std::vector<int32_t> prompt, int max_new_tokens, uint64_t seed) {
  Request request = greedy_request(std::move(prompt), max_new_tokens);
  request.sampling.temperature = 1;
  request.sampling.seed = seed;
  return request;
}

/// What a request gets when it is alone in an engine that never runs short.
inline std::vector<std::vector<int32_t>> alone(const Request& request,
                                               EngineOptions options = small_options()) {
  options.max_total_tokens = 65536;
  options.disable_radix_cache = true;
  LoopFixture fixture(options);
  const auto sink = fixture.submit(request);
  fixture.run();
  std::vector<std::vector<int32_t>> ids;
  for (const auto& [index, told] : sink->choices) ids.push_back(told.ids);
  return ids;
}

}  // namespace erne
