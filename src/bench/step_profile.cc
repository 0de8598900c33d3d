#include "bench/step_profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "base/error.h"
#include "base/json.h"
#include "base/rng.h"

namespace erne::bench {
namespace {

constexpr int64_t kUsualContext = 512;
constexpr int kBlockTokens = 16;

/// The arrays that a Batch points to.
struct StepInput {
  std::vector<int32_t> ids, positions, query_start, context_len, block_table, logit_rows;
  int32_t max_blocks = 0;

  StepInput(const StepShape& shape, int64_t vocab_size) {
    max_blocks = static_cast<int32_t>((shape.context + kBlockTokens - 1) / kBlockTokens);
    query_start.push_back(0);
    for (int64_t s = 0; s < shape.sequences; ++s) {
      for (int64_t t = shape.context - shape.tokens; t < shape.context; ++t) {
        const auto draw = philox(1, static_cast<uint64_t>(s), static_cast<uint64_t>(t))[0];
        ids.push_back(static_cast<int32_t>(draw % static_cast<uint64_t>(vocab_size)));
        positions.push_back(static_cast<int32_t>(t));
      }
      query_start.push_back(static_cast<int32_t>(ids.size()));
      context_len.push_back(static_cast<int32_t>(shape.context));
      logit_rows.push_back(static_cast<int32_t>(ids.size()) - 1);
    }
    block_table.resize(static_cast<size_t>(shape.sequences * max_blocks));
    std::iota(block_table.begin(), block_table.end(), 0);
  }

  Batch batch() const {
    return {ids, positions, query_start, context_len, block_table, max_blocks, logit_rows};
  }
};

void keep_fastest(std::vector<OpCall>& best, const std::vector<OpCall>& run) {
  if (best.empty()) best = run;
  ERNE_CHECK(best.size() == run.size());
  for (size_t i = 0; i < run.size(); ++i)
    best[i].seconds = std::min(best[i].seconds, run[i].seconds);
}

OrderedJson to_json(const StepProfile& step) {
  OrderedJson json = {{"step", step.shape.name},
                      {"sequences", step.shape.sequences},
                      {"tokens", step.shape.tokens},
                      {"context", step.shape.context},
                      {"seconds", step.seconds}};
  json["operations"] = OrderedJson::array();
  for (const OpRate& r : step.ops) {
    OrderedJson op = {{"operation", op_name(r.op)}, {"calls", r.calls},
                      {"seconds", r.seconds},       {"time_share", r.seconds / step.seconds},
                      {"bytes", r.bytes},           {"flops", r.flops},
                      {"gb_per_s", r.gb_per_s()},   {"gflops", r.gflops()},
                      {"share_of_limit", nullptr}};
    if (r.limit_gflops > 0) op["share_of_limit"] = r.gflops() / r.limit_gflops;
    json["operations"].push_back(std::move(op));
  }
  return json;
}

}  // namespace

std::vector<StepShape> usual_shapes(const TextConfig& config) {
  const int64_t context = std::min(kUsualContext, config.max_position_embeddings);
  return {{"decode, batch 1", 1, 1, context},
          {"decode, batch 16", 16, 1, context},
          {fmt::format("prefill, {} tokens", context), 1, context, context}};
}

std::vector<StepShape> card_shapes(const TextConfig& config) {
  std::vector<StepShape> shapes;
  const int64_t context = std::min<int64_t>(1024, config.max_position_embeddings);
  for (const int64_t batch : {1, 8, 16, 64, 100})
    shapes.push_back({fmt::format("decode, batch {}", batch), batch, 1, context});
  for (const int64_t wanted : {512, 4096}) {
    const int64_t tokens = std::min(wanted, config.max_position_embeddings);
    shapes.push_back({fmt::format("prefill, {} tokens", tokens), 1, tokens, tokens});
  }
  return shapes;
}

std::vector<OpRate> add_up(std::span<const OpCall> calls) {
  std::map<Op, OpRate> sums;
  for (const OpCall& call : calls) {
    OpRate& sum = sums[call.op];
    sum.op = call.op;
    ++sum.calls;
    sum.seconds += call.seconds;
    sum.bytes += call.bytes;
    sum.flops += call.flops;
  }
  std::vector<OpRate> rates;
  for (const auto& [op, sum] : sums) rates.push_back(sum);
  return rates;
}

StepProfile profile_step(const TextModel& model, Device& device, const StepShape& shape,
                         const RooflinePoint& limits, int runs) {
  ERNE_CHECK(shape.tokens >= 1 && shape.tokens <= shape.context && runs >= 1);
  const StepInput input(shape, model.config().vocab_size);
  TimedDevice timed(device);
  KvCache cache = timed.make_kv_cache(model.kv_spec(kBlockTokens),
                                      static_cast<int32_t>(input.block_table.size()));
  // Written once: untouched memory would be one page of zeros, read from a cache.
  timed.fill(cache.data, 0);
  Arena arena(timed.allocate(model.arena_bytes(static_cast<int64_t>(input.ids.size()),
                                               static_cast<int64_t>(input.logit_rows.size()))));
  Ctx ctx{timed, arena};
  std::vector<OpCall> best;
  for (int run = 0; run <= runs; ++run) {
    arena.reset();
    model.forward(ctx, input.batch(), cache);
    timed.synchronize();
    const std::vector<OpCall> calls = timed.take();
    if (run > 0) keep_fastest(best, calls);
  }

  StepProfile step{shape, 0, add_up(best)};
  const double peak = best_peak_gflops(limits, model.dtype());
  for (OpRate& rate : step.ops) {
    rate.limit_gflops = std::min(peak, rate.intensity() * limits.read_gb_per_s);
    step.seconds += rate.seconds;
  }
  return step;
}

std::string to_table(std::span<const StepProfile> steps) {
  std::string text;
  for (const StepProfile& step : steps) {
    text += fmt::format("\n{} (context {}): {:.3f} ms\n", step.shape.name, step.shape.context,
                        step.seconds * 1e3);
    text += fmt::format("{:<10} {:>6} {:>9} {:>7} {:>8} {:>9} {:>10} {:>9}\n", "operation", "calls",
                        "ms", "time %", "GB/s", "GFLOP/s", "FLOP/byte", "of limit");
    for (const OpRate& r : step.ops) {
      const std::string share =
          r.limit_gflops > 0 ? fmt::format("{:.0f} %", 100 * r.gflops() / r.limit_gflops) : "-";
      text += fmt::format("{:<10} {:>6} {:>9.3f} {:>7.1f} {:>8.1f} {:>9.1f} {:>10.2f} {:>9}\n",
                          op_name(r.op), r.calls, r.seconds * 1e3, 100 * r.seconds / step.seconds,
                          r.gb_per_s(), r.gflops(), r.intensity(), share);
    }
  }
  return text;
}

std::string to_json(std::span<const StepProfile> steps) {
  OrderedJson all = OrderedJson::array();
  for (const StepProfile& step : steps) all.push_back(to_json(step));
  return all.dump(2);
}

}  // namespace erne::bench
