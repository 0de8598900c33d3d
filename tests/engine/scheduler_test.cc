// Random traffic over a model that hashes its context: no page leaks at any step, every request
// ends exactly once, outputs equal an uncontended run, nothing starves.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"
#include "engine/loop_fixture.h"

namespace erne {
namespace {

struct Dice {
  uint64_t seed;
  uint64_t count = 0;
  int operator()(int bound) {
    return static_cast<int>(philox(seed, 11, count++)[0] % static_cast<uint32_t>(bound));
  }
};

EngineOptions random_options(Dice& dice) {
  EngineOptions options = small_options();
  const int pages[] = {1, 2, 4, 16};
  const int chunks[] = {-1, 1, 5, 16, 40};
  options.page_size = pages[dice(4)];
  options.max_total_tokens = 64 + dice(300);
  options.max_running_requests = 1 + dice(10);
  options.chunked_prefill_size = chunks[dice(5)];
  options.max_prefill_tokens = 8 + dice(100);
  options.enable_mixed_chunk = dice(2) == 0;
  options.disable_radix_cache = dice(3) == 0;
  options.schedule_policy = static_cast<SchedulePolicy>(dice(4));
  options.schedule_conservativeness = dice(2) == 0 ? 0.02 : 1.0;
  return options;
}

Request random_request(Dice& dice, int64_t pool) {
  std::vector<int32_t> prompt =
      random_ids(static_cast<uint64_t>(dice(3)), dice(40));  // few prefixes: many hits
  const std::vector<int32_t> own = random_ids(static_cast<uint64_t>(dice(1000)), 1 + dice(20));
  prompt.insert(prompt.end(), own.begin(), own.end());
  // Together at most the pool, so that no answer is cut short by it.
  const int longest = static_cast<int>(pool) - static_cast<int>(prompt.size()) - 16;
  Request request = sampled_request(prompt, 1 + dice(std::clamp(longest, 1, 60)),
                                    static_cast<uint64_t>(dice(1000)));
  request.sampling.temperature = dice(2);
  request.n = dice(5) == 0 ? 1 + dice(4) : 1;
  request.cache_salt = dice(4) == 0 ? "salt" : "";
  request.ignore_eos = dice(2) == 0;
  request.prompt_logprobs = dice(8) == 0;
  request.stream_interval = 1 + dice(3);
  return request;
}

TEST(Scheduler, RandomTrafficEqualsUncontendedRuns) {
  uint64_t retractions = 0;
  for (uint64_t seed = 0; seed < 150; ++seed) {
    SCOPED_TRACE(seed);
    Dice dice{seed};
    LoopFixture fixture(random_options(dice));
    const int64_t pool = fixture.options.max_total_tokens.value() / fixture.options.page_size *
                         fixture.options.page_size;
    std::vector<std::pair<Request, std::shared_ptr<RecordingSink>>> sent;
    for (int i = 0; i < 20; ++i) {
      const Request request = random_request(dice, pool);
      if (static_cast<int64_t>(request.prompt_ids.size()) > pool) continue;
      sent.emplace_back(request, fixture.submit(request));
      for (int s = dice(6); s > 0; --s) fixture.step();
    }
    fixture.run(20000);
    if (testing::Test::HasFatalFailure()) return;
    for (const auto& [request, sink] : sent) {
      ASSERT_TRUE(sink->done(request.n));
      const auto ids = alone(request);
      for (const auto& [choice, told] : sink->choices) {
        const auto& want = ids[static_cast<size_t>(choice)];
        if (static_cast<int64_t>(request.prompt_ids.size() + want.size()) <= pool) {
          EXPECT_EQ(told.ids, want);
        }
        EXPECT_EQ(told.usage.completion_tokens, static_cast<int>(told.ids.size()));
        const bool has_prompt = request.prompt_logprobs && choice == 0;
        EXPECT_EQ(told.prompt_logprobs.size(), has_prompt ? request.prompt_ids.size() : 0U);
      }
    }
    const EngineStats stats = fixture.loop.stats();
    retractions += stats.retractions_total;
    EXPECT_EQ(stats.finished_total, sent.size());
    EXPECT_EQ(fixture.ledger.queued(), 0);
  }
  EXPECT_GT(retractions, 100U);
}

TEST(Scheduler, TenThousandRandomCancelsLeaveNothing) {
  EngineOptions options = small_options();
  options.max_total_tokens = 400;
  options.schedule_conservativeness = 0.1;
  LoopFixture fixture(options);
  Dice dice{5};
  std::vector<std::pair<std::string, std::shared_ptr<RecordingSink>>> live;
  int cancelled = 0;
  for (int i = 0; cancelled < 10000; ++i) {
    if (live.size() < 40) {
      Request request = random_request(dice, 400);
      request.id = "id" + std::to_string(i) + "-";
      live.emplace_back(request.id, fixture.submit(request));
    }
    if (dice(3) == 0) fixture.step();
    if (dice(2) == 0 && !live.empty()) {
      const auto victim = live.begin() + dice(static_cast<int>(live.size()));
      fixture.loop.abort(victim->first, "test");
      live.erase(victim);
      ++cancelled;
    }
  }
  fixture.loop.abort("", "test");
  fixture.step();
  ASSERT_TRUE(fixture.loop.idle());
  const EngineStats stats = fixture.loop.stats();
  EXPECT_EQ(stats.used_tokens, 0);
  EXPECT_EQ(stats.locked_nodes, 0);
  EXPECT_EQ(stats.cached_tokens + stats.free_tokens, stats.pool_tokens);
  EXPECT_EQ(stats.aborted_total + stats.finished_total, stats.requests_total);
  EXPECT_EQ(fixture.ledger.queued(), 0);
  EXPECT_TRUE(fixture.loop.flush_cache());
  EXPECT_EQ(fixture.loop.stats().free_tokens, stats.pool_tokens);
  for (const auto& [id, sink] : live) EXPECT_TRUE(sink->choices.at(0).finish);
}

TEST(Scheduler, AbortTellsEveryChoiceOnceAndKeepsComputedPages) {
  LoopFixture fixture;
  Request request = greedy_request(random_ids(1, 40), 100);
  request.n = 3;
  const auto sink = fixture.submit(request);
  for (int i = 0; i < 6; ++i) fixture.step();
  fixture.loop.abort("r0", "enough");
  fixture.step();
  ASSERT_TRUE(sink->done(3));
  for (const auto& [choice, told] : sink->choices) {
    EXPECT_EQ(told.finish->reason, FinishReason::kAbort);
    EXPECT_EQ(told.finish->message, "enough");
  }
  EXPECT_GE(fixture.loop.stats().cached_tokens, 40);
}

TEST(Scheduler, DecodeIsNotStarvedByPrompts) {
  for (const bool mixed : {true, false}) {
    EngineOptions options = small_options();
    options.enable_mixed_chunk = mixed;
    LoopFixture fixture(options);
    const auto first = fixture.submit(greedy_request(random_ids(1, 4), 30));
    fixture.step();
    for (uint64_t i = 0; i < 7; ++i) fixture.submit(greedy_request(random_ids(50 + i, 200), 1));
    for (int i = 0; i < 50; ++i) fixture.step();
    EXPECT_GE(first->choices[0].ids.size(), mixed ? 30U : 10U) << "mixed " << mixed;
    fixture.run();
  }
}

TEST(Scheduler, ALoneRequestThatOutgrowsThePoolEndsWithLength) {
  EngineOptions options = small_options();
  options.max_total_tokens = 64;
  LoopFixture fixture(options);
  const auto sink = fixture.submit(greedy_request(random_ids(1, 50), 100));
  fixture.run();
  EXPECT_EQ(sink->choices[0].finish->reason, FinishReason::kLength);
  EXPECT_EQ(sink->choices[0].ids.size(),
            15U);  // 64 positions hold 50 + 14 tokens, the last token needs none
}

// Two sequences that outgrow the pool together: the second is retracted, waits, and runs again.
TEST(Scheduler, CountsWhatARetractionLosesAndRecomputes) {
  EngineOptions options = small_options();
  options.max_total_tokens = 48;
  options.disable_radix_cache = true;
  options.schedule_conservativeness = 0.02;
  LoopFixture fixture(options);
  const auto first = fixture.submit(greedy_request(random_ids(1, 10), 30));
  const auto second = fixture.submit(greedy_request(random_ids(2, 12), 30));
  fixture.step();
  fixture.step();
  EngineStats s = fixture.loop.stats();
  ASSERT_EQ(s.running, 2);
  EXPECT_EQ(s.max_running, 8);
  EXPECT_EQ(s.prefill_tokens_total, 22U);
  EXPECT_GT(s.decode_seq_lens, 22);
  EXPECT_GT(s.new_token_ratio, 0);
  while (s.retractions_total == 0 && !fixture.loop.idle()) {
    fixture.step();
    s = fixture.loop.stats();
  }
  ASSERT_EQ(s.retractions_total, 1U);
  EXPECT_EQ(s.retracted, 1);
  EXPECT_EQ(s.running, 1);
  const bool longer = s.retracted_prompt_tokens_total == 12U;  // of equals the longer prompt goes
  const uint64_t lost = s.retracted_output_tokens_total;
  const auto& victim = (longer ? second : first)->choices[0];
  EXPECT_EQ(lost, victim.ids.size());
  EXPECT_GT(lost, 0U);
  fixture.run();
  s = fixture.loop.stats();
  EXPECT_EQ(s.retracted, 0);
  EXPECT_EQ(s.decode_seq_lens, 0);
  EXPECT_EQ(s.retractions_total, 1U);
  EXPECT_EQ(victim.num_retractions, 1);
  EXPECT_EQ(s.prefill_tokens_total, 22 + s.retracted_prompt_tokens_total + lost);
  EXPECT_EQ(s.prefill_cached_tokens_total, 0U);
}

TEST(Scheduler, PrefillIsComputedOrFoundInTheCache) {
  LoopFixture fixture;
  const Request request = greedy_request(random_ids(1, 40), 3);
  fixture.submit(request);
  fixture.run();
  EXPECT_EQ(fixture.loop.stats().prefill_tokens_total, 40U);
  fixture.submit(request);
  fixture.run();
  const EngineStats s = fixture.loop.stats();
  EXPECT_EQ(s.prefill_cached_tokens_total, 36U);  // whole pages, and one token must be computed
  EXPECT_EQ(s.prefill_tokens_total, 44U);
  EXPECT_EQ(s.cached_tokens_total, 36U);
  EXPECT_EQ(s.prompt_tokens_total, 80U);
}

TEST(Scheduler, PromptsLargerThanPoolOrContextAreRefused) {
  EngineOptions options = small_options();
  options.max_total_tokens = 64;
  LoopFixture fixture(options);
  const auto message = [&](const Request& request) -> std::string {
    try {
      fixture.submit(request);
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Code::kInvalidArgument);
      return e.what();
    }
    return "accepted";
  };
  EXPECT_NE(message(greedy_request(random_ids(1, 65), 1)).find("64"), std::string::npos);
  EXPECT_NE(message(greedy_request(random_ids(1, 256), 1)).find("maximum context length"),
            std::string::npos);
  EXPECT_NE(message(greedy_request(random_ids(1, 60), 197)).find("maximum context length"),
            std::string::npos);
  EXPECT_EQ(message(greedy_request(random_ids(1, 60), 196)), "accepted");
  Request nan = greedy_request({1}, 1);
  nan.sampling.temperature = std::nan("");
  EXPECT_NE(message(nan).find("temperature"), std::string::npos);
  Request outside = greedy_request({97}, 1);
  EXPECT_NE(message(outside).find("97"), std::string::npos);
}

TEST(Scheduler, AutoTruncateCutsInsteadOfRefusing) {
  EngineOptions options = small_options();
  options.allow_auto_truncate = true;
  LoopFixture fixture(options);
  const auto sink = fixture.submit(greedy_request(random_ids(1, 300), 50));
  fixture.run();
  EXPECT_EQ(sink->choices[0].usage.prompt_tokens, 255);
  EXPECT_EQ(sink->choices[0].ids.size(), 1U);
}

TEST(Scheduler, FullQueuesRefuseAndRecover) {
  EngineOptions options = small_options();
  options.max_queued_requests = 2;
  options.max_queued_tokens = 100;
  LoopFixture fixture(options);
  fixture.submit(greedy_request(random_ids(1, 90), 1));
  EXPECT_THROW(fixture.submit(greedy_request(random_ids(2, 20), 1)), Error);
  fixture.submit(greedy_request(random_ids(3, 10), 1));
  EXPECT_THROW(fixture.submit(greedy_request(random_ids(4, 1), 1)), Error);
  fixture.run();
  Request twin = greedy_request(random_ids(2, 20), 1);
  twin.id = "twin";
  EXPECT_NO_THROW(fixture.submit(twin));
  EXPECT_THROW(fixture.submit(twin), Error);
  fixture.run();
}

TEST(Scheduler, ANewPromptMayUseEveryPageOfTheCache) {
  EngineOptions options = small_options();
  options.max_total_tokens = 128;
  LoopFixture fixture(options);
  for (uint64_t i = 0; i < 10; ++i) {
    const auto sink = fixture.submit(greedy_request(random_ids(i, 120), 4));
    fixture.run();
    EXPECT_EQ(sink->choices[0].ids.size(), 4U);
  }
  EXPECT_GT(fixture.loop.stats().evicted_tokens_total, 0U);
}

TEST(Scheduler, MinNewTokensMasksTheEnd) {
  // Bias makes the end (id 0) certain as soon as it may be drawn.
  for (const int least : {0, 1, 7}) {
    LoopFixture fixture;
    Request request = greedy_request({5, 6}, 20);
    request.ignore_eos = false;
    request.sampling.logit_bias = {{0, 100.0F}};
    request.min_new_tokens = least;
    const auto sink = fixture.submit(request);
    fixture.run();
    EXPECT_EQ(sink->choices[0].ids.size(), static_cast<size_t>(least) + 1);
    EXPECT_EQ(std::get<int32_t>(sink->choices[0].finish->matched), 0);
  }
}

TEST(Scheduler, AFailedStepEndsItsRequestsAndTheNextOnesRun) {
  LoopFixture fixture;
  Request request = greedy_request(random_ids(1, 40), 30);
  request.n = 2;
  const auto sink = fixture.submit(request);
  for (int i = 0; i < 5; ++i) fixture.step();
  fixture.loop.fail_all("broken");
  fixture.loop.publish();
  ASSERT_TRUE(sink->done(2));
  EXPECT_EQ(sink->choices[1].finish->reason, FinishReason::kError);
  EXPECT_EQ(fixture.loop.stats().free_tokens, fixture.loop.stats().pool_tokens);
  const auto next = fixture.submit(greedy_request(random_ids(1, 40), 30));
  fixture.run();
  EXPECT_EQ(next->choices[0].ids, alone(greedy_request(random_ids(1, 40), 30))[0]);
}

}  // namespace
}  // namespace erne
