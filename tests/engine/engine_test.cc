// The engine thread and its borders: many submitters, cancels, ids, shutdown, idleness. The null
// device stands for the model.
#include "engine/engine.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <thread>

#include "base/error.h"
#include "base/rng.h"
#include "engine/loaded_model.h"

namespace erne {
namespace {

EngineOptions null_options() {
  EngineOptions options;
  options.model_path = std::filesystem::path(ERNE_TESTS_DIR) / "goldens/text/dense-tied";
  options.device = "null";
  options.skip_tokenizer = true;
  options.random_seed = 3;
  options.max_total_tokens = 4096;
  return options;
}

Request short_request(int max_new_tokens) {
  Request request;
  request.prompt_ids = {3, 4, 5};
  request.max_new_tokens = max_new_tokens;
  request.ignore_eos = true;
  return request;
}

/// Waits for the end; the number of tokens and how it ended.
std::pair<int, FinishReason> drain(TokenStream& stream) {
  int tokens = 0;
  FinishReason reason = FinishReason::kError;
  while (auto output = stream.next()) {
    tokens += static_cast<int>(output->token_ids.size());
    if (output->finish) reason = output->finish->reason;
  }
  return {tokens, reason};
}

TEST(Engine, ManyThreadsSubmitAndCancel) {
  Engine engine(null_options());
  std::atomic<int> finished{0};
  std::atomic<int> aborted{0};
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (uint64_t i = 0; i < 40; ++i) {
        const auto dice = philox(1, t, i);
        Request request = short_request(1 + static_cast<int>(dice[0] % 200));
        request.n = 1 + static_cast<int>(dice[1] % 3);
        const auto stream = std::make_shared<TokenStream>(request.n);
        const std::string id = engine.submit(request, stream);
        if (dice[2] % 2 == 0) engine.abort(id);
        (drain(*stream).second == FinishReason::kAbort ? aborted : finished)++;
        engine.stats();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(finished + aborted, 320);
  const EngineStats stats = engine.stats();
  EXPECT_EQ(stats.requests_total, 320U);
  EXPECT_EQ(stats.finished_total + stats.aborted_total, 320U);
  EXPECT_EQ(stats.used_tokens, 0);
  EXPECT_EQ(stats.locked_nodes, 0);
  EXPECT_EQ(stats.running + stats.queued, 0);
}

TEST(Engine, IdsAreUniqueWhileLive) {
  Engine engine(null_options());
  Request request = short_request(4000);
  request.id = "mine";
  const auto stream = std::make_shared<TokenStream>();
  EXPECT_EQ(engine.submit(request, stream), "mine");
  try {
    engine.submit(request, std::make_shared<TokenStream>());
    ADD_FAILURE() << "accepted twice";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::kConflict);
  }
  engine.abort("mi");
  EXPECT_EQ(drain(*stream).second, FinishReason::kAbort);
  const auto again = std::make_shared<TokenStream>();
  request.max_new_tokens = 2;
  engine.submit(request, again);
  EXPECT_EQ(drain(*again), (std::pair{2, FinishReason::kLength}));
  EXPECT_NE(engine.submit(short_request(1), std::make_shared<TokenStream>()),
            engine.submit(short_request(1), std::make_shared<TokenStream>()));
}

TEST(Engine, DestructionEndsWhatRuns) {
  const auto running = std::make_shared<TokenStream>();
  {
    Engine engine(null_options());
    Request request = short_request(4000);
    request.max_new_tokens.reset();
    engine.submit(request, running);
  }
  const auto [tokens, reason] = drain(*running);
  EXPECT_TRUE(reason == FinishReason::kAbort || reason == FinishReason::kLength);
}

TEST(Engine, FlushNeedsQuiet) {
  Engine engine(null_options());
  const auto stream = std::make_shared<TokenStream>();
  Request request = short_request(20);
  request.prompt_ids.assign(100, 5);
  engine.submit(request, stream);
  drain(*stream);
  EXPECT_GT(engine.stats().cached_tokens, 0);
  EXPECT_TRUE(engine.flush_cache());
  const auto next = std::make_shared<TokenStream>();
  engine.submit(request, next);
  while (auto output = next->next()) EXPECT_EQ(output->usage.cached_tokens, 0);
}

TEST(Engine, UnseededRequestsDiffer) {
  EngineOptions options = null_options();
  options.device = "cpu";
  options.num_threads = 1;
  Engine engine(options);
  const auto ids = [&] {
    const auto stream = std::make_shared<TokenStream>();
    engine.submit(short_request(20), stream);
    std::vector<int32_t> all;
    while (auto output = stream->next())
      all.insert(all.end(), output->token_ids.begin(), output->token_ids.end());
    return all;
  };
  EXPECT_NE(ids(), ids());
}

double cpu_s() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

TEST(Engine, IdleCostsNothing) {
  EngineOptions options = null_options();
  options.device = "cpu";
  options.num_threads = 2;
  Engine engine(options);
  const auto stream = std::make_shared<TokenStream>();
  engine.submit(short_request(3), stream);
  drain(*stream);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  const double before = cpu_s();
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  EXPECT_LT(cpu_s() - before, 0.05);  // a spinning thread would use half a second
  EXPECT_EQ(engine.stats().last_step_age_s, 0);
}

Finish finish_of(TokenStream& stream) {
  Finish finish;
  while (auto output = stream.next()) {
    if (output->finish) finish = *output->finish;
  }
  return finish;
}

TEST(Engine, ALostDeviceEndsAllRequestsWithTheCause) {
  ::setenv("ERNE_BACKEND_DIR", LOST_DEVICE_DIR, 1);
  EngineOptions options = null_options();
  options.device = "cuda:3";
  Engine engine(options);
  EXPECT_EQ(engine.stats().fault, "");
  const auto running = std::make_shared<TokenStream>();
  engine.submit(short_request(80), running);
  const auto [tokens, reason] = drain(*running);
  EXPECT_EQ(tokens, 2);
  EXPECT_EQ(reason, FinishReason::kError);
  EXPECT_EQ(engine.stats().fault, "the device caught fire") << "known before clients are told";
  for (int i = 0; i < 3; ++i) {
    const auto late = std::make_shared<TokenStream>();
    engine.submit(short_request(1), late);
    const Finish finish = finish_of(*late);
    EXPECT_EQ(finish.reason, FinishReason::kError);
    EXPECT_EQ(finish.message, "the engine has stopped: the device caught fire");
  }
  const EngineStats stats = engine.stats();
  EXPECT_EQ(stats.used_tokens, 0);
  EXPECT_EQ(stats.running + stats.queued, 0);
  EXPECT_EQ(stats.last_step_age_s, 0) << "nothing waits, so no watchdog";
  EXPECT_TRUE(engine.flush_cache());
}

TEST(Engine, ErnieTurnsEndThoughTheFilesListOnlyOneEnd) {
  const auto tokenizer =
      Tokenizer::load(std::filesystem::path(ERNE_TESTS_DIR) / "goldens/tokenizer");
  GenerationConfig generation;
  generation.eos_ids = {7, 2};
  const std::vector<int32_t> all = {2, 7, *tokenizer->find("<|end_of_sentence|>"),
                                    *tokenizer->find("<|im_end|>")};
  EXPECT_EQ(find_eos_ids(generation, tokenizer.get(), 7000), all);
  EXPECT_EQ(find_eos_ids(generation, tokenizer.get(), 3000), (std::vector<int32_t>{2, 7}))
      << "the model has no such rows";
  EXPECT_EQ(find_eos_ids(generation, nullptr, 7000), (std::vector<int32_t>{2, 7}));
}

TEST(Engine, RefusesBadOptions) {
  const auto refused = [](auto change) {
    EngineOptions options = null_options();
    change(options);
    EXPECT_THROW(Engine{options}, Error);
  };
  refused([](EngineOptions& o) { o.context_length = 1 << 20; });
  refused([](EngineOptions& o) { o.page_size = 0; });
  refused([](EngineOptions& o) { o.max_running_requests = 0; });
  refused([](EngineOptions& o) { o.device = "abacus"; });
  refused([](EngineOptions& o) { o.model_path = "/nowhere"; });
  refused([](EngineOptions& o) {
    o.device = "cpu";
    o.max_total_tokens = int64_t{1} << 50;
  });
  Engine engine(null_options());
  Request request = short_request(1);
  request.stop = {"x"};
  EXPECT_THROW(engine.submit(request, std::make_shared<TokenStream>()), Error);
}

}  // namespace
}  // namespace erne
