// A request with many choices holds one prompt, not one a choice: in the queue, while a few choices
// run, and after their end.
#include "engine/sequence.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "engine/loop_fixture.h"

namespace erne {
namespace {

constexpr int kChoices = 128;

int num_own_copies(const LiveRequest& live) {
  return static_cast<int>(std::count_if(
      live.choices.begin(), live.choices.end(),
      [&](const Sequence& s) { return s.tokens().data() != live.request.prompt_ids.data(); }));
}

Request many_choices(int prompt_len, int max_new_tokens) {
  Request request = sampled_request(random_ids(3, prompt_len), max_new_tokens, 5);
  request.n = kChoices;
  request.sampling.repetition_penalty = 1.3;
  request.sampling.frequency_penalty = 0.2;
  return request;
}

TEST(Sequence, WaitingChoicesShareThePrompt) {
  LiveRequest live(many_choices(100000, 8), nullptr, nullptr);
  EXPECT_EQ(live.queued_tokens(), 128 * 100000);
  EXPECT_EQ(num_own_copies(live), 0);
  EXPECT_TRUE(live.distinct_prompt.empty());

  Sequence& first = live.choices[0];
  Sequence& second = live.choices[1];
  first.begin();
  second.begin();
  EXPECT_EQ(num_own_copies(live), 2);
  EXPECT_EQ(live.distinct_prompt.size(), 96U);  // the vocabulary of random_ids()
  EXPECT_EQ(first.counts.prompt().data(), second.counts.prompt().data());
  EXPECT_TRUE(first.counts.output().empty());

  first.append(7);
  EXPECT_EQ(first.size(), 100001);
  EXPECT_EQ(first.tokens().back(), 7);
  EXPECT_EQ(second.size(), 100000);
  first.drop_tokens();
  EXPECT_EQ(num_own_copies(live), 1);
  EXPECT_EQ(first.generated(), 1);
}

TEST(Sequence, OnlyRunningChoicesHoldTokens) {
  const Request request = many_choices(150, 4);
  LoopFixture fixture;
  auto sink = std::make_shared<RecordingSink>();
  auto live = std::make_unique<LiveRequest>(request, sink, nullptr);
  live->max_new_tokens = 4;
  live->seed = 5;
  live->request.id = "many";
  const LiveRequest& seen = *live;
  fixture.ledger.enter("many", live->queued_tokens());
  fixture.loop.add(std::move(live));
  int most = 0;
  while (!fixture.loop.idle()) {
    fixture.loop.step();
    const int copies = num_own_copies(seen);  // before publish(), which may end `seen`
    EXPECT_LE(copies, fixture.options.max_running_requests);
    most = std::max(most, copies);
    fixture.loop.publish();
    fixture.check_books();
  }
  EXPECT_GT(most, 1);
  ASSERT_EQ(sink->choices.size(), size_t{kChoices});
  for (const auto& [index, told] : sink->choices) EXPECT_EQ(told.ids.size(), 4U);
  EXPECT_EQ(fixture.ledger.queued(), 0);
}

// A pool that holds few of them at a time: what a retracted choice had said is not lost.
TEST(Sequence, RetractedChoicesKeepTheirOutput) {
  Request request = many_choices(40, 60);
  request.n = 12;
  EngineOptions options = small_options();
  options.max_total_tokens = 256;
  LoopFixture fixture(options);
  const auto sink = fixture.submit(request);
  fixture.run();
  EXPECT_GT(fixture.loop.stats().retractions_total, 0U);
  const auto expected = alone(request);
  for (const auto& [index, told] : sink->choices)
    EXPECT_EQ(told.ids, expected[static_cast<size_t>(index)]);
}

TEST(Sequence, QueueLimitCountsEveryChoice) {
  Ledger ledger(std::nullopt, 1000);
  Request request = many_choices(10, 4);
  const LiveRequest live(request, nullptr, nullptr);
  ledger.enter("a", 1);
  EXPECT_ANY_THROW(ledger.enter("b", live.queued_tokens()));
  ledger.dequeue(1);
  ledger.enter("b", live.queued_tokens());  // alone in the queue: always taken
}

}  // namespace
}  // namespace erne
