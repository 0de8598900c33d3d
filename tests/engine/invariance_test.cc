// A request's tokens do not depend on batch mates, chunking, page size, prefix hits, retraction or
// policy. The model is a hash of the context as read through the block table, so any wrong page
// shows in the next token.
#include <gtest/gtest.h>

#include "engine/loop_fixture.h"

namespace erne {
namespace {

std::vector<Request> crowd() {
  std::vector<Request> requests;
  const std::vector<int32_t> shared = random_ids(99, 41);
  for (int i = 0; i < 12; ++i) {
    std::vector<int32_t> prompt = i % 3 == 0 ? shared : std::vector<int32_t>{};
    const std::vector<int32_t> own = random_ids(static_cast<uint64_t>(i), 1 + (i * 11) % 70);
    prompt.insert(prompt.end(), own.begin(), own.end());
    Request request = i % 2 == 0
                          ? greedy_request(prompt, 3 + (i * 7) % 40)
                          : sampled_request(prompt, 3 + (i * 7) % 40, static_cast<uint64_t>(i));
    request.n = i % 4 == 1 ? 3 : 1;
    request.sampling.top_p = i % 4 == 3 ? 0.8 : 1.0;
    request.sampling.repetition_penalty = i % 5 == 3 ? 1.3 : 1.0;
    requests.push_back(request);
  }
  return requests;
}

const std::vector<std::vector<std::vector<int32_t>>>& expected() {
  static const auto* const result = [] {
    auto* ids = new std::vector<std::vector<std::vector<int32_t>>>;
    for (const Request& request : crowd()) ids->push_back(alone(request));
    return ids;
  }();
  return *result;
}

void expect_crowd_unchanged(const EngineOptions& options, bool expect_retractions = false) {
  LoopFixture fixture(options);
  const std::vector<Request> requests = crowd();
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (const Request& request : requests) sinks.push_back(fixture.submit(request));
  fixture.run();
  for (size_t i = 0; i < requests.size(); ++i) {
    ASSERT_EQ(sinks[i]->choices.size(), expected()[i].size());
    for (const auto& [choice, told] : sinks[i]->choices) {
      EXPECT_EQ(told.ids, expected()[i][static_cast<size_t>(choice)])
          << "request " << i << " choice " << choice;
      EXPECT_EQ(told.finish->reason, FinishReason::kLength);
    }
  }
  EXPECT_TRUE(!expect_retractions || fixture.loop.stats().retractions_total > 0);
}

TEST(Invariance, ChunkSizes) {
  for (const int chunk : {-1, 1, 3, 7, 16, 64, 1000}) {
    SCOPED_TRACE(chunk);
    EngineOptions options = small_options();
    options.chunked_prefill_size = chunk;
    expect_crowd_unchanged(options);
  }
}

TEST(Invariance, PageSizes) {
  for (const int page : {1, 2, 16, 64, 256}) {
    SCOPED_TRACE(page);
    EngineOptions options = small_options();
    options.page_size = page;
    options.max_total_tokens = 8192;
    expect_crowd_unchanged(options);
  }
}

TEST(Invariance, MixedChunksOffAndBatchSizes) {
  for (const int running : {1, 2, 5, 64}) {
    SCOPED_TRACE(running);
    EngineOptions options = small_options();
    options.max_running_requests = running;
    options.enable_mixed_chunk = false;
    expect_crowd_unchanged(options);
  }
}

TEST(Invariance, CacheOff) {
  EngineOptions options = small_options();
  options.disable_radix_cache = true;
  expect_crowd_unchanged(options);
}

TEST(Invariance, Policies) {
  for (const SchedulePolicy policy : {SchedulePolicy::kFcfs, SchedulePolicy::kLongestPrefix,
                                      SchedulePolicy::kLongestOutput, SchedulePolicy::kRandom}) {
    EngineOptions options = small_options();
    options.schedule_policy = policy;
    expect_crowd_unchanged(options);
  }
}

TEST(Invariance, RetractionInATightPool) {
  for (const bool mixed : {true, false}) {
    for (const bool cache : {true, false}) {
      EngineOptions options = small_options();
      options.max_total_tokens = 160;            // the largest request alone needs 152
      options.schedule_conservativeness = 0.05;  // admit too much, on purpose
      options.enable_mixed_chunk = mixed;
      options.disable_radix_cache = !cache;
      expect_crowd_unchanged(options, true);
    }
  }
}

TEST(Invariance, SecondRoundHitsTheCache) {
  LoopFixture fixture;
  const std::vector<int32_t> prompt = random_ids(5, 39);
  const auto first = fixture.submit(sampled_request(prompt, 30, 3));
  fixture.run();
  const auto second = fixture.submit(sampled_request(prompt, 30, 3));
  fixture.run();
  EXPECT_EQ(first->choices[0].ids, second->choices[0].ids);
  EXPECT_EQ(first->choices[0].usage.cached_tokens, 0);
  EXPECT_EQ(second->choices[0].usage.cached_tokens, 36);  // 9 full pages of 4

  // The next turn of a conversation finds prompt and answer.
  std::vector<int32_t> next = prompt;
  next.insert(next.end(), first->choices[0].ids.begin(), first->choices[0].ids.end());
  next.push_back(1);
  const auto third = fixture.submit(greedy_request(next, 4));
  fixture.run();
  EXPECT_EQ(third->choices[0].usage.cached_tokens,
            68);  // 69 tokens, of which the last sampled one has no KV
  EXPECT_EQ(third->choices[0].ids, alone(greedy_request(next, 4))[0]);
}

TEST(Invariance, SaltsAreSeparate) {
  LoopFixture fixture;
  Request request = greedy_request(random_ids(5, 40), 2);
  request.cache_salt = "a";
  fixture.submit(request);
  fixture.run();
  request.cache_salt = "b";
  const auto other = fixture.submit(request);
  fixture.run();
  EXPECT_EQ(other->choices[0].usage.cached_tokens, 0);
  const auto same = fixture.submit(request);
  fixture.run();
  EXPECT_EQ(same->choices[0].usage.cached_tokens, 36);
}

TEST(Invariance, EqualPromptsWaitForEachOther) {
  EngineOptions options = small_options();
  options.chunked_prefill_size = 512;
  options.max_prefill_tokens = 512;
  LoopFixture fixture(options);
  const std::vector<int32_t> prompt = random_ids(5, 100);
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (uint64_t i = 0; i < 4; ++i) sinks.push_back(fixture.submit(sampled_request(prompt, 5, i)));
  fixture.run();
  EXPECT_EQ(sinks[0]->choices[0].usage.cached_tokens, 0);
  for (size_t i = 1; i < 4; ++i) {
    EXPECT_EQ(sinks[i]->choices[0].usage.cached_tokens, 96);
    EXPECT_EQ(sinks[i]->choices[0].ids, alone(sampled_request(prompt, 5, i))[0]);
  }
}

TEST(Invariance, PromptLogprobsIgnoreTheCacheAndChunking) {
  Request request = greedy_request(random_ids(8, 61), 3);
  std::vector<TokenLogprob> reference;
  for (const int chunk : {64, 16, 5}) {
    EngineOptions options = small_options();
    options.chunked_prefill_size = chunk;
    LoopFixture fixture(options);
    request.prompt_logprobs = false;
    fixture.submit(request);
    fixture.run();
    request.prompt_logprobs = true;
    request.logprobs = true;
    request.top_logprobs = 2;
    request.n = 2;
    const auto sink = fixture.submit(request);
    fixture.run();
    const std::vector<TokenLogprob>& got = sink->choices[0].prompt_logprobs;
    ASSERT_EQ(got.size(), 61U);
    EXPECT_TRUE(sink->choices[1].prompt_logprobs.empty()) << "told once, with choice 0";
    EXPECT_EQ(got[0].logprob, 0);
    if (reference.empty()) reference = got;
    for (size_t i = 0; i < got.size(); ++i) {
      EXPECT_EQ(got[i].id, request.prompt_ids[i]);
      EXPECT_EQ(got[i].logprob, reference[i].logprob);
      EXPECT_EQ(got[i].top, reference[i].top);
      EXPECT_EQ(got[i].top.size(), i == 0 ? 0U : 2U);
    }
  }
}

}  // namespace
}  // namespace erne
