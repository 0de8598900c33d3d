// The engine's loop over a whole model on a GPU: tokens that the device draws are those that the
// host draws from the same logits.
#include <gtest/gtest.h>

#include "engine/loop_fixture.h"
#include "gpu/test_device.h"
#include "model/checkpoint.h"
#include "model/golden_cases.h"
#include "model/text_model.h"

namespace erne {
namespace {

/// Lets the host draw.
class HostDraws final : public Runner {
 public:
  explicit HostDraws(Runner& inner) : inner_(inner) {}
  Tensor forward(const Batch& batch) override { return inner_.forward(batch); }
  int64_t vocab_size() const override { return inner_.vocab_size(); }

 private:
  Runner& inner_;
};

/// Counts what is drawn on the device, and rows that come to the host.
class CountingDraws final : public Runner {
 public:
  explicit CountingDraws(Runner& inner) : inner_(inner) {}
  Tensor forward(const Batch& batch) override { return inner_.forward(batch); }
  bool draws() const override { return inner_.draws(); }
  std::span<const int32_t> draw(const Batch& batch, std::span<const Draw> draws,
                                std::span<const LogitEdit> edits) override {
    drawn += draws.size();
    return inner_.draw(batch, draws, edits);
  }
  Tensor drawn_rows(int64_t first, int64_t count) override {
    rows += count;
    return inner_.drawn_rows(first, count);
  }
  int64_t vocab_size() const override { return inner_.vocab_size(); }
  size_t drawn = 0;
  int64_t rows = 0;

 private:
  Runner& inner_;
};

std::vector<Request> requests(int64_t vocab) {
  std::vector<Request> all;
  for (uint64_t i = 0; i < 7; ++i) {
    Request& request = all.emplace_back();
    request.prompt_ids = random_ids(i, 3 + static_cast<int>(i) * 5, vocab);
    request.max_new_tokens = 7;
    request.sampling.seed = i;
    request.sampling.temperature = i == 0 ? 0 : 1.2;
  }
  all[1].sampling.top_k = 9;
  all[2].sampling.top_p = 0.8;
  all[3].sampling.repetition_penalty = 1.5;
  all[3].sampling.frequency_penalty = 0.5;
  all[3].min_new_tokens = 4;
  all[3].stop_token_ids = {5, 6, 7};
  all[4].n = 2;
  all[4].sampling.min_p = 0.05;
  all[5].logprobs = true;
  all[5].top_logprobs = 3;
  all[6].prompt_logprobs = true;
  all[6].sampling.logit_bias = {{9, 4.0F}};
  return all;
}

std::vector<Told> run(Runner& runner) {
  EngineOptions options = small_options();
  options.context_length = 64;
  SystemClock clock;
  Ledger ledger(options.max_queued_requests, options.max_queued_tokens);
  StepLoop loop(options, runner, nullptr, clock, ledger, {2});
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (Request& request : requests(runner.vocab_size())) {
    request.id = std::to_string(sinks.size());
    sinks.push_back(std::make_shared<RecordingSink>());
    auto live = std::make_unique<LiveRequest>(std::move(request), sinks.back(), nullptr);
    live->serial = sinks.size();
    live->seed = *live->request.sampling.seed;
    live->max_new_tokens = *live->request.max_new_tokens;
    ledger.enter(live->request.id, live->queued_tokens());
    loop.add(std::move(live));
  }
  while (!loop.idle()) {
    loop.step();
    loop.publish();
  }
  std::vector<Told> told;
  for (const auto& sink : sinks) {
    for (const auto& [choice, t] : sink->choices) told.push_back(t);
  }
  return told;
}

void expect_same(const std::vector<TokenLogprob>& a, const std::vector<TokenLogprob>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].id, b[i].id);
    EXPECT_EQ(a[i].logprob, b[i].logprob);
    EXPECT_EQ(a[i].top, b[i].top);
  }
}

TEST(GpuEngine, TheDevicesDrawsAreTheHosts) {
  const auto device = test::make_test_device();
  const auto model =
      TextModel::load(Checkpoint::open(kCases / kCaseNames[0]), *device, {DType::kF32, false});
  const EngineOptions options = small_options();
  ModelRunner runner(
      *model, *device,
      device->make_kv_cache(model->kv_spec(options.page_size),
                            static_cast<int32_t>(*options.max_total_tokens / options.page_size)),
      64, 8);
  CountingDraws counted(runner);
  HostDraws host(runner);
  const std::vector<Told> ours = run(counted);
  const std::vector<Told> expected = run(host);
  ASSERT_EQ(ours.size(), expected.size());
  int64_t tokens = 0;
  for (size_t i = 0; i < ours.size(); ++i) {
    EXPECT_EQ(ours[i].ids, expected[i].ids) << i;
    EXPECT_FALSE(ours[i].ids.empty());
    expect_same(ours[i].logprobs, expected[i].logprobs);
    expect_same(ours[i].prompt_logprobs, expected[i].prompt_logprobs);
    tokens += static_cast<int64_t>(ours[i].ids.size());
  }
  // Only the request that wants logprobs sees rows of its own, and the one that wants its prompt's.
  const auto with_logprobs = static_cast<int64_t>(ours[6].ids.size());
  EXPECT_EQ(static_cast<int64_t>(counted.drawn), tokens - with_logprobs);
  EXPECT_LE(counted.rows,
            2 * with_logprobs + static_cast<int64_t>(requests(97)[6].prompt_ids.size()));
}

}  // namespace
}  // namespace erne
