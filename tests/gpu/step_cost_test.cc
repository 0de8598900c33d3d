// What a decode step asks of the runtime once the first steps have made room: no memory, and one
// wait, for the tokens.
#include <gtest/gtest.h>

#include "engine/loop_fixture.h"
#include "gpu/emulated/gpu_emulated.h"
#include "gpu/test_device.h"
#include "model/checkpoint.h"
#include "model/golden_cases.h"
#include "model/text_model.h"

namespace erne {
namespace {

TEST(GpuStep, DecodingAllocatesNothingAndWaitsOnce) {
  const auto device = test::make_test_device();
  const auto model =
      TextModel::load(Checkpoint::open(kCases / "moe"), *device, {DType::kF32, false});
  const EngineOptions options = small_options();
  ModelRunner runner(
      *model, *device,
      device->make_kv_cache(model->kv_spec(options.page_size),
                            static_cast<int32_t>(*options.max_total_tokens / options.page_size)),
      64, 8);
  ManualClock clock;
  Ledger ledger(options.max_queued_requests, options.max_queued_tokens);
  StepLoop loop(options, runner, nullptr, clock, ledger, {});
  for (uint64_t i = 0; i < 2; ++i) {
    Request request;
    request.id = std::to_string(i);
    request.prompt_ids = random_ids(i, 16, runner.vocab_size());
    request.sampling.temperature = i == 0 ? 0 : 1;
    request.sampling.logit_bias = {{3, 1.0F}, {4, 1.0F}};
    auto live = std::make_unique<LiveRequest>(request, std::make_shared<RecordingSink>(), nullptr);
    live->serial = i;
    live->max_new_tokens = 10;
    ledger.enter(request.id, live->queued_tokens());
    loop.add(std::move(live));
  }
  while (loop.stats().generation_tokens_total < 4) {
    ASSERT_TRUE(loop.step());
    loop.publish();
  }
  gpu::emulated::take_counts();
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(loop.step());
    loop.publish();
    const gpu::emulated::Counts counts = gpu::emulated::take_counts();
    EXPECT_EQ(counts.allocations, 0);
    EXPECT_EQ(counts.waits, 1);
    EXPECT_GT(counts.launches, 2 * model->config().num_layers);
  }
}

}  // namespace
}  // namespace erne
