// /metrics from made-up counters of the engine: names, labels and values (spec serving.md 13).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <sstream>

#include "server/metrics_api.h"

namespace erne::server {
namespace {

using testing::HasSubstr;
using testing::Not;

/// Every line: name with labels, value.
std::map<std::string, double> series(const std::string& text) {
  std::map<std::string, double> out;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const size_t blank = line.rfind(' ');
    if (line.starts_with('#') || blank == std::string::npos) continue;
    out[line.substr(0, blank)] = std::stod(line.substr(blank + 1));
  }
  return out;
}

/// The value of the one series with this name and this piece of its labels.
double value(const std::map<std::string, double>& all, const std::string& name,
             const std::string& label = {}) {
  std::vector<double> found;
  for (const auto& [key, number] : all) {
    if (key.starts_with(name + "{") && key.find(label) != std::string::npos)
      found.push_back(number);
  }
  EXPECT_EQ(found.size(), 1U) << name << " " << label;
  return found.empty() ? -1 : found.front();
}

EngineStats busy_engine() {
  EngineStats s;
  s.running = 3;
  s.max_running = 4;
  s.queued = 5;
  s.retracted = 2;
  s.pool_tokens = 1000;
  s.used_tokens = 250;
  s.cached_tokens = 150;
  s.free_tokens = 600;
  s.decode_seq_lens = 77;
  s.new_token_ratio = 0.25;
  s.gen_throughput = 12.5;
  s.prompt_tokens_total = 400;
  s.cached_tokens_total = 100;
  s.generation_tokens_total = 90;
  s.prefill_tokens_total = 333;
  s.prefill_cached_tokens_total = 111;
  s.evicted_tokens_total = 16;
  s.retractions_total = 7;
  s.retracted_prompt_tokens_total = 70;
  s.retracted_output_tokens_total = 21;
  return s;
}

TEST(Metrics, ShowWhatTheEngineCounts) {
  Metrics metrics("sglang", "m", {}, false);
  metrics.startup(3.5, 2.5);
  EngineStats stats = busy_engine();
  metrics.text(stats, 1);  // reading twice must not count twice
  const auto all = series(metrics.text(stats, 9));
  const std::map<std::string, double> want = {{"num_running_reqs", 3},
                                              {"num_queue_reqs", 5},
                                              {"num_retracted_reqs", 2},
                                              {"num_used_tokens", 250},
                                              {"token_usage", 0.25},
                                              {"utilization", 0.75},
                                              {"max_total_num_tokens", 1000},
                                              {"gen_throughput", 12.5},
                                              {"cache_hit_rate", 0.25},
                                              {"decode_sum_seq_lens", 77},
                                              {"new_token_ratio", 0.25},
                                              {"kv_available_tokens", 600},
                                              {"kv_evictable_tokens", 150},
                                              {"kv_used_tokens", 250},
                                              {"engine_startup_time", 3.5},
                                              {"engine_load_weights_time", 2.5},
                                              {"http_requests_active", 9},
                                              {"evicted_tokens_total", 16},
                                              {"num_retracted_requests_total", 7},
                                              {"num_retracted_input_tokens_total", 70},
                                              {"num_retracted_output_tokens_total", 21}};
  for (const auto& [name, number] : want) {
    EXPECT_EQ(value(all, "sglang:" + name, R"(model_name="m")"), number) << name;
    EXPECT_EQ(value(all, "sglang:" + name, R"(tp_rank="0")"), number) << name;
  }
  const std::string realtime = "sglang:realtime_tokens_total";
  EXPECT_EQ(value(all, realtime, R"(mode="prefill_compute")"), 333);
  EXPECT_EQ(value(all, realtime, R"(mode="prefill_cache")"), 111);
  EXPECT_EQ(value(all, realtime, R"(mode="decode")"), 90);
  stats.retracted_output_tokens_total = 30;
  EXPECT_EQ(value(series(metrics.text(stats, 0)), "sglang:num_retracted_output_tokens_total"), 30);
}

TEST(Metrics, StagesAddUpToTheWholeRequest) {
  Metrics metrics("erne", "m", {}, true);
  metrics.first_token({100, 64, 0.25, 0.5, 1});
  metrics.request_ended({Metrics::End::kFinished, 3.75, 2.0, 100, 8, 1});
  metrics.first_token({10, 0, 0.25, 0.5, 1});
  metrics.request_ended({Metrics::End::kAborted, 9, 5.0, 10, 1, 0});
  const auto all = series(metrics.text({}, 0));
  const std::string stage = "erne:per_stage_req_latency_seconds_sum";
  EXPECT_EQ(value(all, stage, R"(stage="tokenize")"), 0.5);
  EXPECT_EQ(value(all, stage, R"(stage="prefill_waiting")"), 1);
  EXPECT_EQ(value(all, stage, R"(stage="prefill_forward")"), 2);
  EXPECT_EQ(value(all, stage, R"(stage="decode_loop")"), 2);  // of the one that finished
  EXPECT_EQ(value(all, "erne:time_to_first_token_seconds_sum"), 3.5);
  EXPECT_EQ(value(all, "erne:queue_time_seconds_sum"), 1);
  EXPECT_EQ(value(all, "erne:e2e_request_latency_seconds_sum"), 3.75);
  EXPECT_EQ(value(all, "erne:num_retractions_sum"), 1);
  EXPECT_EQ(value(all, "erne:prompt_tokens_total"), 110);
  EXPECT_EQ(value(all, "erne:cached_tokens_total"), 64);
  EXPECT_EQ(value(all, "erne:num_requests_total"), 2);
  EXPECT_EQ(value(all, "erne:num_aborted_requests_total"), 1);
  EXPECT_EQ(value(all, "erne:prompt_tokens_histogram_count"), 1);
  EXPECT_EQ(value(all, "erne:generation_tokens_histogram_sum"), 8);
}

TEST(Metrics, FeaturesThatAreNotBuiltHaveNone) {
  Metrics metrics("sglang", "m", {}, true);
  const std::string text = metrics.text(busy_engine(), 0);
  for (const char* name : {"spec_accept", "grammar", "lora", "cuda_graph", "paused", "transfer",
                           "prealloc", "bootstrap", "load_back", "num_so_requests"}) {
    EXPECT_THAT(text, Not(HasSubstr(name)));
  }
}

}  // namespace
}  // namespace erne::server
