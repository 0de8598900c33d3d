// From logits to what a client is told: text, stops, logprobs, usage, and a row that went wrong.
#include "engine/step_loop.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <new>
#include <stdexcept>

#include "base/error.h"
#include "engine/loop_fixture.h"
#include "engine/table_tokenizer.h"
#include "engine/validate.h"
#include "model/config.h"

namespace erne {
namespace {

/// 97 tokens: two letters each, some with a stop sign in the middle.
const TableTokenizer& letters() {
  static const auto* const tokenizer = [] {
    std::vector<std::string> tokens = {"</s>"};
    for (int i = 1; i < 97; ++i) {
      tokens.push_back(
          {static_cast<char>('a' + i % 26), i % 9 == 0 ? '.' : static_cast<char>('A' + i % 23)});
    }
    return new TableTokenizer(tokens, {0});
  }();
  return *tokenizer;
}

std::string text_of(const std::vector<int32_t>& ids) { return letters().decode(ids, true); }

TEST(StepLoop, TextIsTheSameForEveryStreamInterval) {
  Request request = sampled_request(random_ids(3, 10), 60, 5);
  request.logprobs = true;
  request.top_logprobs = 3;
  Told first;
  for (const int interval : {1, 2, 7, 1000}) {
    request.stream_interval = interval;
    LoopFixture fixture(small_options(), &letters());
    const auto sink = fixture.submit(request);
    fixture.run();
    const Told& told = sink->choices[0];
    EXPECT_EQ(told.text, text_of(told.ids));
    EXPECT_EQ(told.ids.size(), 60U);
    ASSERT_EQ(told.logprobs.size(), 60U);
    if (interval == 1) first = told;
    EXPECT_EQ(told.text, first.text);
    for (size_t i = 0; i < 60; ++i) {
      EXPECT_EQ(told.logprobs[i].id, told.ids[i]);
      EXPECT_EQ(told.logprobs[i].logprob, first.logprobs[i].logprob);
      EXPECT_EQ(told.logprobs[i].top.size(), 3U);
      EXPECT_LE(told.logprobs[i].logprob, told.logprobs[i].top[0].second);
    }
    EXPECT_EQ(told.num_outputs, interval == 1      ? 60
                                : interval == 1000 ? 2
                                                   : 1 + (59 + interval - 1) / interval);
  }
}

TEST(StepLoop, StopStringEndsTheText) {
  Request request = sampled_request(random_ids(3, 10), 200, 5);
  request.stop = {"."};
  LoopFixture fixture(small_options(), &letters());
  const auto sink = fixture.submit(request);
  fixture.run();
  const Told& told = sink->choices[0];
  ASSERT_TRUE(told.finish);
  EXPECT_EQ(told.finish->reason, FinishReason::kStop);
  EXPECT_EQ(std::get<std::string>(told.finish->matched), ".");
  const std::string all = text_of(told.ids);
  EXPECT_EQ(all.find('.'), all.size() - 1);
  EXPECT_EQ(told.text, all.substr(0, all.size() - 1));
  EXPECT_EQ(told.usage.completion_tokens, static_cast<int>(told.ids.size()));
}

TEST(StepLoop, StopTokenIsCountedButNotShown) {
  for (const bool keep : {false, true}) {
    Request request = greedy_request(random_ids(3, 10), 30);
    request.sampling.logit_bias = {{7, 90.0F}};
    request.stop_token_ids = {7};
    request.min_new_tokens = 4;
    request.no_stop_trim = keep;
    LoopFixture fixture(small_options(), &letters());
    const auto sink = fixture.submit(request);
    fixture.run();
    const Told& told = sink->choices[0];
    ASSERT_EQ(told.ids.size(), 5U);
    EXPECT_EQ(told.ids.back(), 7);
    EXPECT_EQ(told.usage.completion_tokens, 5);
    EXPECT_EQ(std::get<int32_t>(told.finish->matched), 7);
    std::vector<int32_t> shown = told.ids;
    if (!keep) shown.pop_back();
    EXPECT_EQ(told.text, text_of(shown));
  }
}

// A probe while others run, with a prompt that the cache knows, cut into chunks, with two choices.
TEST(StepLoop, HiddenRequestLeavesNoTrace) {
  LoopFixture fixture;
  const Request seen = sampled_request(random_ids(3, 40), 6, 5);
  Request hidden = seen;
  hidden.hidden = true;
  hidden.n = 2;
  fixture.submit(seen);
  fixture.run();
  const EngineStats before = fixture.loop.stats();
  ASSERT_GT(before.cached_tokens, 0);

  const auto sink = fixture.submit(hidden);
  fixture.run();
  hidden.prompt_ids = random_ids(4, 40);
  fixture.submit(hidden);
  fixture.step();
  fixture.loop.abort("", "enough");
  fixture.run();

  EXPECT_EQ(sink->choices[0].ids, alone(seen)[0]);
  EXPECT_EQ(sink->choices[1].ids.size(), 6U);
  const EngineStats after = fixture.loop.stats();
  EXPECT_EQ(after.requests_total, before.requests_total);
  EXPECT_EQ(after.finished_total, before.finished_total);
  EXPECT_EQ(after.aborted_total, before.aborted_total);
  EXPECT_EQ(after.prompt_tokens_total, before.prompt_tokens_total);
  EXPECT_EQ(after.cached_tokens_total, before.cached_tokens_total);
  EXPECT_EQ(after.generation_tokens_total, before.generation_tokens_total);
  EXPECT_EQ(after.prefill_tokens_total, before.prefill_tokens_total);
  EXPECT_EQ(after.prefill_cached_tokens_total, before.prefill_cached_tokens_total);
  EXPECT_EQ(after.cached_tokens, before.cached_tokens);
}

/// Spoils the logits of every sequence that has the token 13 in its step.
class SpoilingRunner final : public Runner {
 public:
  explicit SpoilingRunner(Runner& inner) : inner_(inner) {}
  Tensor forward(const Batch& batch) override {
    const Tensor logits = inner_.forward(batch);
    for (size_t row = 0; row < batch.logit_rows.size(); ++row) {
      if (batch.token_ids[static_cast<size_t>(batch.logit_rows[row])] != 13) continue;
      logits.ptr<float>()[static_cast<int64_t>(row) * vocab_size() + 5] =
          std::numeric_limits<float>::quiet_NaN();
    }
    return logits;
  }
  int64_t vocab_size() const override { return inner_.vocab_size(); }

 private:
  Runner& inner_;
};

TEST(StepLoop, NanEndsOneRequestAndNoOther) {
  LoopFixture fixture;
  SpoilingRunner runner(fixture.runner);
  StepLoop loop(fixture.options, runner, nullptr, fixture.clock, fixture.ledger, {});
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (uint64_t i = 0; i < 3; ++i) {
    Request request = greedy_request({1, 2, i == 1 ? 13 : static_cast<int32_t>(20 + i)}, 10);
    request.sampling.logit_bias = {{13, -100.0F}};  // no one else gets there
    request.id = std::to_string(i);
    sinks.push_back(std::make_shared<RecordingSink>());
    auto live = std::make_unique<LiveRequest>(request, sinks.back(), nullptr);
    live->serial = i;
    live->max_new_tokens = 10;
    fixture.ledger.enter(request.id, 3);
    loop.add(std::move(live));
  }
  while (!loop.idle()) {
    loop.step();
    loop.publish();
  }
  EXPECT_EQ(sinks[1]->choices[0].finish->reason, FinishReason::kError);
  EXPECT_EQ(sinks[0]->choices[0].ids.size(), 10U);
  EXPECT_EQ(sinks[2]->choices[0].ids.size(), 10U);
  EXPECT_EQ(loop.stats().used_tokens, 0);
}

/// Counts the rows of logits that steps ask for.
class CountingRunner final : public Runner {
 public:
  explicit CountingRunner(Runner& inner) : inner_(inner) {}
  Tensor forward(const Batch& batch) override {
    most_rows = std::max(most_rows, static_cast<int64_t>(batch.logit_rows.size()));
    return inner_.forward(batch);
  }
  int64_t vocab_size() const override { return inner_.vocab_size(); }
  int64_t most_rows = 0;

 private:
  Runner& inner_;
};

std::unique_ptr<LiveRequest> live_request(Request request, uint64_t serial,
                                          std::shared_ptr<OutputSink> sink, Ledger& ledger) {
  request.id = std::to_string(serial);
  auto live = std::make_unique<LiveRequest>(std::move(request), std::move(sink), nullptr);
  live->serial = serial;
  live->max_new_tokens = live->request.max_new_tokens.value();
  ledger.enter(live->request.id, live->queued_tokens());
  return live;
}

TEST(StepLoop, PromptLogprobsOfManyRequestsStayWithinOneBudgetOfRows) {
  EngineOptions options = small_options();
  options.chunked_prefill_size = 1024;
  options.max_prefill_tokens = 1024;
  LoopFixture fixture(options);
  CountingRunner runner(fixture.runner);
  StepLoop loop(options, runner, nullptr, fixture.clock, fixture.ledger, {});
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (uint64_t i = 0; i < 6; ++i) {
    Request request = greedy_request(random_ids(i, 90), 4);
    request.prompt_logprobs = true;
    sinks.push_back(std::make_shared<RecordingSink>());
    loop.add(live_request(request, i, sinks.back(), fixture.ledger));
  }
  for (int i = 0; i < 1000 && !loop.idle(); ++i) {
    loop.step();
    loop.publish();
  }
  EXPECT_GT(runner.most_rows, 90);
  EXPECT_LE(runner.most_rows, kMaxPromptRows + options.max_running_requests);
  for (const auto& sink : sinks) EXPECT_EQ(sink->choices[0].prompt_logprobs.size(), 90U);
}

class ThrowingSink final : public OutputSink {
 public:
  void on_output(Output) override {
    ++calls;
    throw std::runtime_error("no more");
  }
  int calls = 0;
};

TEST(StepLoop, AFailureWhileTellingLosesOneRequestOnly) {
  LoopFixture fixture;
  const auto bad = std::make_shared<ThrowingSink>();
  const auto good = std::make_shared<RecordingSink>();
  fixture.loop.add(live_request(greedy_request({1, 2, 3}, 5), 0, bad, fixture.ledger));
  fixture.loop.add(live_request(greedy_request({4, 5, 6}, 5), 1, good, fixture.ledger));
  fixture.run();
  EXPECT_EQ(bad->calls, 5);
  EXPECT_EQ(good->choices[0].ids.size(), 5U);
}

/// Fails in one step.
class FailingRunner final : public Runner {
 public:
  FailingRunner(Runner& inner, int step) : inner_(inner), steps_left_(step) {}
  Tensor forward(const Batch& batch) override {
    if (steps_left_-- == 0) throw std::bad_alloc();
    return inner_.forward(batch);
  }
  int64_t vocab_size() const override { return inner_.vocab_size(); }

 private:
  Runner& inner_;
  int steps_left_;
};

TEST(StepLoop, AFailedStepEndsEveryRequestOnceEvenWhenOneHasJustEnded) {
  LoopFixture fixture;
  FailingRunner runner(fixture.runner, 3);
  StepLoop loop(fixture.options, runner, nullptr, fixture.clock, fixture.ledger, {});
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (uint64_t i = 0; i < 12; ++i) {  // some run, some wait
    sinks.push_back(std::make_shared<RecordingSink>());
    loop.add(live_request(greedy_request(random_ids(i, 20), 30), i, sinks.back(), fixture.ledger));
  }
  for (int i = 0; i < 3; ++i) {
    loop.step();
    loop.publish();
  }
  loop.abort("5", "enough");  // has ended, but is not told when the step fails
  EXPECT_THROW(loop.step(), std::bad_alloc);
  loop.fail_all("broken");
  loop.fail_all("broken twice");
  loop.publish();
  EXPECT_TRUE(loop.idle());
  for (size_t i = 0; i < sinks.size(); ++i) {
    ASSERT_TRUE(sinks[i]->done(1)) << i;
    EXPECT_EQ(sinks[i]->choices[0].finish->message, i == 5 ? "enough" : "broken");
  }
  EXPECT_EQ(loop.stats().used_tokens, 0);
  EXPECT_EQ(fixture.ledger.queued(), 0);
}

TEST(Validate, RefusesWhatWouldLeaveTheRangeOfAFloatAndDropsSuchDefaults) {
  LoopFixture fixture;
  Request request = greedy_request({1, 2}, 3);
  request.sampling.repetition_penalty = 1e-40;
  EXPECT_THROW(fixture.submit(request), Error);
  request.sampling.repetition_penalty = kMinRepetitionPenalty;
  const auto sink = fixture.submit(request);
  fixture.run();
  EXPECT_EQ(sink->choices[0].finish->reason, FinishReason::kLength);

  GenerationConfig generation;
  generation.top_p = 0;
  generation.repetition_penalty = 2.5;
  generation.frequency_penalty = 1;
  generation.temperature = 0.7;
  drop_unusable_defaults(generation);
  EXPECT_EQ(generation.top_p, std::nullopt);
  EXPECT_EQ(generation.repetition_penalty, std::nullopt);
  EXPECT_EQ(generation.frequency_penalty, 1);
  EXPECT_EQ(generation.temperature, 0.7);
}

}  // namespace
}  // namespace erne
