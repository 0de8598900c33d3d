// The engine with real (tiny) models: greedy ids equal the reference's goldens, and every request
// gets the same bits alone, in a crowd, in chunks, on other page sizes, after prefix hits,
// retracted, and on more threads.
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <string>

#include "engine/engine.h"
#include "engine/loaded_model.h"
#include "engine/step_loop.h"
#include "model/config.h"
#include "model/verify.h"

namespace erne {
namespace {

const std::filesystem::path kGoldens = std::filesystem::path(ERNE_TESTS_DIR) / "goldens/text";
const std::vector<std::string> kCases = {"dense-tied", "dense-bias", "moe", "moe-sharded"};

EngineOptions model_options(const std::string& name, DType dtype = DType::kF32) {
  EngineOptions options;
  options.model_path = kGoldens / name;
  options.skip_tokenizer = true;
  options.dtype = dtype;
  options.num_threads = 1;
  options.max_total_tokens = 4096;
  options.context_length = 512;
  options.max_running_requests = 16;
  options.random_seed = 7;
  return options;
}

struct Answer {
  std::vector<int32_t> ids;
  std::vector<float> logprobs;
  int cached_tokens = 0;
  friend bool operator==(const Answer& a, const Answer& b) {
    return a.ids == b.ids && a.logprobs == b.logprobs;
  }
};

std::vector<Answer> collect(TokenStream& stream, int n) {
  std::vector<Answer> answers(static_cast<size_t>(n));
  while (auto output = stream.next()) {
    Answer& answer = answers[static_cast<size_t>(output->choice)];
    answer.ids.insert(answer.ids.end(), output->token_ids.begin(), output->token_ids.end());
    for (const TokenLogprob& l : output->logprobs) answer.logprobs.push_back(l.logprob);
    answer.cached_tokens = output->usage.cached_tokens;
  }
  return answers;
}

/// All at once, answers in the order of the requests.
std::vector<std::vector<Answer>> run_all(Engine& engine, const std::vector<Request>& requests) {
  std::vector<std::shared_ptr<TokenStream>> streams;
  for (const Request& request : requests) {
    streams.push_back(std::make_shared<TokenStream>(request.n));
    engine.submit(request, streams.back());
  }
  std::vector<std::vector<Answer>> answers;
  for (size_t i = 0; i < requests.size(); ++i)
    answers.push_back(collect(*streams[i], requests[i].n));
  return answers;
}

Request golden_request(const GoldenSequence& sequence) {
  Request request;
  request.prompt_ids = sequence.ids;
  request.sampling.temperature = 0;
  request.max_new_tokens = static_cast<int>(sequence.greedy.size());
  request.ignore_eos = true;
  return request;
}

class GoldenCase : public testing::TestWithParam<std::string> {};
std::string case_name(const testing::TestParamInfo<std::string>& param) {
  std::string name = param.param;
  for (char& c : name) c = c == '-' ? '_' : c;
  return name;
}
INSTANTIATE_TEST_SUITE_P(Text, GoldenCase, testing::ValuesIn(kCases), case_name);

void expect_goldens(const EngineOptions& options, const Golden& golden) {
  Engine engine(options);
  std::vector<Request> requests;
  for (const GoldenSequence& sequence : golden.sequences)
    requests.push_back(golden_request(sequence));
  for (int round = 0; round < 2; ++round) {  // the second round runs on prefix hits
    const auto answers = run_all(engine, requests);
    for (size_t i = 0; i < requests.size(); ++i) {
      EXPECT_EQ(answers[i][0].ids, golden.sequences[i].greedy)
          << golden.sequences[i].name << " round " << round;
      const auto page = static_cast<size_t>(options.page_size);
      const size_t pages = (requests[i].prompt_ids.size() - 1) / page;
      EXPECT_GE(answers[i][0].cached_tokens, round == 0 ? 0 : static_cast<int>(pages * page));
    }
  }
  EXPECT_EQ(engine.stats().locked_nodes, 0);
}

TEST_P(GoldenCase, GreedyIdsInFloat32) {
  const Golden golden = read_golden(kGoldens / GetParam() / "golden.safetensors",
                                    TextConfig::load(kGoldens / GetParam()));
  for (const int chunk : {1, 7, 16, 64}) {
    SCOPED_TRACE(chunk);
    EngineOptions options = model_options(GetParam());
    options.chunked_prefill_size = chunk;
    expect_goldens(options, golden);
  }
  for (const int page : {32, 64}) {
    SCOPED_TRACE(page);
    EngineOptions options = model_options(GetParam());
    options.page_size = page;
    options.enable_mixed_chunk = false;
    options.num_threads = 2;
    expect_goldens(options, golden);
  }
}

std::vector<Request> sampled_crowd() {
  std::vector<Request> requests;
  for (uint64_t i = 0; i < 8; ++i) {
    Request request;
    for (uint64_t t = 0; t < 1 + i * 9; ++t)
      request.prompt_ids.push_back(static_cast<int32_t>(3 + (t * (i % 3 + 1) * 37) % 500));
    request.sampling.temperature = 0.9;
    request.sampling.top_p = i % 2 == 0 ? 0.9 : 1.0;
    request.sampling.top_k = i % 4 == 1 ? 20 : -1;
    request.sampling.frequency_penalty = i % 4 == 2 ? 0.5 : 0;
    request.sampling.seed = 100 + i;
    request.n = i == 5 ? 3 : 1;
    request.logprobs = true;
    request.ignore_eos = true;
    request.max_new_tokens = 20;
    requests.push_back(request);
  }
  return requests;
}

// Bitwise: ids and logprobs.
TEST_P(GoldenCase, SampledRequestsAloneAndInCrowds) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    SCOPED_TRACE(dtype_name(dtype));
    const std::vector<Request> requests = sampled_crowd();
    std::vector<std::vector<Answer>> expected;
    {
      EngineOptions options = model_options(GetParam(), dtype);
      options.disable_radix_cache = true;
      Engine engine(options);
      for (const Request& request : requests) expected.push_back(run_all(engine, {request})[0]);
    }
    for (const int threads : {1, 2}) {
      EngineOptions options = model_options(GetParam(), dtype);
      options.num_threads = threads;
      options.chunked_prefill_size = threads == 1 ? 13 : 2048;
      options.page_size = threads == 1 ? 16 : 32;
      Engine engine(options);
      EXPECT_EQ(run_all(engine, requests), expected);
      EXPECT_EQ(run_all(engine, requests), expected);  // on prefix hits
    }
    EngineOptions tight = model_options(GetParam(), dtype);
    tight.max_total_tokens = 128;
    tight.schedule_conservativeness = 0.01;
    Engine engine(tight);
    EXPECT_EQ(run_all(engine, requests), expected);
    EXPECT_GT(engine.stats().retractions_total, 0U);
  }
}

TEST(EngineModel, NullDeviceRunsWithoutWeights) {
  EngineOptions options = model_options("moe");
  options.device = "null";
  Engine engine(options);
  Request request;
  request.prompt_ids = {5, 6, 7};
  request.max_new_tokens = 50;
  request.ignore_eos = true;
  EXPECT_EQ(run_all(engine, {request})[0][0].ids.size(), 50U);
  EXPECT_EQ(engine.stats().weight_bytes, 0U);
}

TEST(EngineModel, ARunnerTellsThatItGetsOn) {
  EngineOptions options = model_options("dense-tied");
  const LoadedModel m = load_model(options);
  EXPECT_LT(m.runner->last_progress_s(), 0);
  const SystemClock clock;
  Ledger ledger(options.max_queued_requests, options.max_queued_tokens);
  StepLoop loop(options, *m.runner, nullptr, clock, ledger, {});
  Request request;
  request.id = "one";
  request.prompt_ids = {5, 6, 7};
  auto live = std::make_unique<LiveRequest>(request, std::make_shared<TokenStream>(), nullptr);
  live->max_new_tokens = 1;
  ledger.enter(request.id, live->queued_tokens());
  loop.add(std::move(live));
  const double before_s = clock.now_s();
  loop.step();
  EXPECT_GE(m.runner->last_progress_s(), before_s);
  loop.publish();
}

}  // namespace
}  // namespace erne
