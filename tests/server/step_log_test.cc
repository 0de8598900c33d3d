// The lines of --decode-log-interval, from made-up counters.
#include "server/step_log.h"

#include <gtest/gtest.h>

namespace erne::server {
namespace {

TEST(StepLog, DecodeLinesComeByStepsAndOnlyWithTokens) {
  EngineStats s;
  s.steps_total = 7;
  s.pool_tokens = 1000;
  StepLog log(s, 40);
  EXPECT_TRUE(log.lines(s).empty());
  s.steps_total = 46;
  s.generation_tokens_total = 39;
  EXPECT_TRUE(log.lines(s).empty());
  s.steps_total = 47;
  s.running = 2;
  s.used_tokens = 125;
  s.gen_throughput = 50.25;
  ASSERT_EQ(log.lines(s).size(), 1U);
  EXPECT_TRUE(log.lines(s).empty());  // said already
  s.steps_total = 200;                // steps without a token: prefill only
  EXPECT_TRUE(log.lines(s).empty());
  s.steps_total = 240;
  ++s.generation_tokens_total;
  EXPECT_EQ(log.lines(s), std::vector<std::string>{"decode: 2 running, 125 KV tokens (12.5 % of "
                                                   "the pool), 50.2 tokens/s, 0 queued"});
}

TEST(StepLog, PrefillLinesHoldWhatIsNew) {
  EngineStats s;
  StepLog log(s, 40);
  s.prompt_tokens_total = 100;  // waits: no work yet
  s.queued = 1;
  EXPECT_TRUE(log.lines(s).empty());
  s.prefill_tokens_total = 36;
  s.prefill_cached_tokens_total = 64;
  s.running = 1;
  s.queued = 0;
  EXPECT_EQ(log.lines(s), std::vector<std::string>{"prefill: 36 new tokens, 64 cached tokens, "
                                                   "1 running, 0 queued"});
  EXPECT_TRUE(log.lines(s).empty());
}

TEST(StepLog, ZeroSwitchesItOff) {
  EngineStats s;
  StepLog log(s, 0);
  s.steps_total = s.generation_tokens_total = s.prefill_tokens_total = 100;
  EXPECT_TRUE(log.lines(s).empty());
}

}  // namespace
}  // namespace erne::server
