// The engine in process: counts, the report's layout, and what a step is said to cost.
#include "bench/offline.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <numeric>

#include "base/json.h"
#include "bench/model_cost.h"
#include "bench/one_batch.h"
#include "model/verify.h"

namespace erne::bench {
namespace {

const std::filesystem::path kModel =
    std::filesystem::path(ERNE_TESTS_DIR) / "goldens/text/dense-tied";

EngineOptions tiny_options(const char* device) {
  EngineOptions options;
  options.model_path = kModel;
  options.device = device;
  options.skip_tokenizer = true;
  options.num_threads = 1;
  options.max_total_tokens = 8192;
  options.dtype = DType::kF32;
  return options;
}

TEST(Offline, CountsWhatRan) {
  Engine engine(tiny_options("null"));
  std::vector<BenchRequest> requests = fixed_requests(6, 40, 9, engine.config().vocab_size, 1);
  requests[2].ids.assign(5000, 1);  // beyond the context: refused
  const OfflineResult result = run_offline(engine, requests, false);
  EXPECT_EQ(result.successful, 5);
  EXPECT_EQ(result.total_input, 200);
  EXPECT_EQ(result.total_output, 45);
  EXPECT_LE(result.decoded, 40);
  EXPECT_GE(result.decode_s, 0);
  EXPECT_GT(result.total_latency_s, 0);
}

TEST(Offline, ReportKeepsTheReferenceLayout) {
  OfflineResult result;
  result.successful = 10;
  result.total_latency_s = 4;
  result.total_input = 6101;
  result.total_output = 4220;
  result.last_gen_throughput = 12.345;
  const std::string report = offline_report(result);
  EXPECT_EQ(report,
            "\n====== Offline Throughput Benchmark Result =======\n"
            "Backend:                                 engine    \n"
            "Successful requests:                     10        \n"
            "Benchmark duration (s):                  4.00      \n"
            "Total input tokens:                      6101      \n"
            "Total generated tokens:                  4220      \n"
            "Last generation throughput (tok/s):      12.35     \n"
            "Request throughput (req/s):              2.50      \n"
            "Input token throughput (tok/s):          1525.25   \n"
            "Output token throughput (tok/s):         1055.00   \n"
            "Total token throughput (tok/s):          2580.25   \n"
            "==================================================\n");
  const Json line = parse_json(offline_json(result, ShapeReport{}), "line");
  for (const char* key :
       {"backend", "successful_requests", "total_latency", "total_input_tokens",
        "total_output_tokens", "request_throughput", "input_throughput", "output_throughput",
        "total_throughput", "last_gen_throughput", "prefill_tok_s", "decode_tok_s"}) {
    EXPECT_TRUE(line.contains(key)) << key;
  }
  EXPECT_FALSE(parse_json(offline_json(result, std::nullopt), "line").contains("decode_tok_s"));
}

constexpr StoredBytes kF32{4, DType::kF32};
constexpr StoredBytes kBF16{2, DType::kBF16};

TEST(ModelCost, CountsEveryWeightOnce) {
  const TextConfig config = TextConfig::load(kModel);
  // Parameters without norms, the tied table once: what a decode step reads.
  const double norms = static_cast<double>((2 * config.num_layers + 1) * config.hidden_size);
  const double expected = static_cast<double>(config.num_parameters()) - norms;
  EXPECT_DOUBLE_EQ(decode_cost(config, kF32, 1, 0).bytes, 4 * expected);
  EXPECT_DOUBLE_EQ(decode_cost(config, kF32, 1, 0).flops, 2 * expected);
  EXPECT_DOUBLE_EQ(decode_cost(config, kBF16, 8, 0).bytes, 2 * expected);
  EXPECT_DOUBLE_EQ(prefill_cost(config, kF32, 1).flops, decode_cost(config, kF32, 1, 1).flops);
  EXPECT_GT(decode_cost(config, kF32, 1, 100).bytes, 4 * expected);
}

TEST(ModelCost, CountsTheCacheInItsOwnType) {
  const TextConfig config = TextConfig::load(kModel);
  const auto kv_bytes = [&](DType cache) {
    return decode_cost(config, {4, cache}, 1, 10).bytes -
           decode_cost(config, {4, cache}, 1, 0).bytes;
  };
  EXPECT_DOUBLE_EQ(kv_bytes(DType::kF32), 2 * kv_bytes(DType::kBF16));
  const double heads = 2.0 * config.num_layers * config.kv_heads * 10;
  EXPECT_DOUBLE_EQ(kv_bytes(DType::kI8), heads * (config.head_dim + 2));
}

TEST(ModelCost, ABatchTouchesMoreExpertsButNeverMoreThanAll) {
  const TextConfig moe = TextConfig::load(kModel.parent_path() / "moe");
  const double one = decode_cost(moe, kF32, 1, 0).bytes;
  const double some = decode_cost(moe, kF32, 4, 0).bytes;
  const double many = decode_cost(moe, kF32, 1000, 0).bytes;
  EXPECT_LT(one, some);
  EXPECT_LT(some, many);
  EXPECT_LE(many, 4 * static_cast<double>(moe.num_parameters()));
}

// The runner alone gives what the engine gives: the golden's greedy ids, whatever the chunk.
TEST(OneBatch, GreedyIdsEqualTheGoldens) {
  const Golden golden = read_golden(kModel / "golden.safetensors", TextConfig::load(kModel));
  for (const int chunk : {16, 2048}) {
    EngineOptions options = tiny_options("cpu");
    options.chunked_prefill_size = chunk;
    LoadedModel model = load_model(options);
    std::vector<std::vector<int32_t>> prompts;
    for (const GoldenSequence& sequence : golden.sequences) prompts.push_back(sequence.ids);
    OneBatch batch(model, options, prompts, 24);
    batch.prefill(0, 5);
    batch.prefill(5, 4096);
    for (int step = 1; step < 24; ++step) batch.decode();
    for (size_t s = 0; s < prompts.size(); ++s) {
      const auto tokens = batch.tokens(s);
      const std::vector<int32_t> output(tokens.begin() + static_cast<ptrdiff_t>(prompts[s].size()),
                                        tokens.end());
      EXPECT_EQ(output, golden.sequences[s].greedy) << golden.sequences[s].name;
    }
  }
}

TEST(OneBatch, TimesEveryStep) {
  EngineOptions options = tiny_options("null");
  LoadedModel model = load_model(options);
  std::vector<int> steps;
  OneBatchObserver observer;
  observer.decode = [&](int step, double) { steps.push_back(step); };
  const OneBatchResult result = run_one_batch(model, options, {{1, 2, 3}, {4}}, 5, observer);
  EXPECT_EQ(steps, (std::vector<int>{0, 1, 2, 3}));
  EXPECT_EQ(result.decode_s.size(), 4U);
  OneBatchResult known;
  known.prefill_s = 1;
  known.decode_s = {4, 1, 3, 2};
  EXPECT_DOUBLE_EQ(known.median_decode_s(), 2.5);
  EXPECT_DOUBLE_EQ(known.total_s(), 11);
}

}  // namespace
}  // namespace erne::bench
