// Figures, the exact report and the JSON line (spec bench.md 1.7 to 1.9), and the identities that
// hold in every run.
#include "bench/serving_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "base/json.h"

namespace erne::bench {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

int two_bytes_a_token(const std::string& text) { return static_cast<int>(text.size() / 2); }

RequestResult answer(double start_s, double ttft_s, std::vector<double> itl_s) {
  RequestResult r;
  r.success = true;
  r.start_s = start_s;
  r.ttft_s = ttft_s;
  r.latency_s = ttft_s;
  for (const double gap : itl_s) r.latency_s += gap;
  r.output_len = static_cast<int>(itl_s.size()) + 1;
  r.itl_s = std::move(itl_s);
  r.prompt_len = 10;
  r.text = "abcdef";
  return r;
}

// The published column "S 80@16" (spec 1.8): the report must come out character by character.
ServingMetrics published() {
  ServingMetrics m;
  m.duration_s = 34.30;
  m.completed = 80;
  m.total_input = 39668;
  m.total_output = 40805;
  m.total_output_retokenized = 40773;
  m.request_throughput = 2.33;
  m.input_throughput = 1156.62;
  m.output_throughput = 1189.77;
  m.max_output_tokens_per_s = 1392;
  m.max_concurrent_requests = 21;
  m.total_throughput = 2346.39;
  m.concurrency = 14.14;
  m.e2e_ms = {.mean = 6060.62, .median = 6496.70};
  m.ttft_ms = {.mean = 78.90, .median = 45.90, .p99 = 234.33};
  m.tpot_ms = {.mean = 11.99, .median = 12.16, .p99 = 14.81};
  m.itl_ms = {.mean = 11.75, .median = 11.48, .p95 = 12.24, .p99 = 34.85, .max = 105.01};
  return m;
}

ServingRun published_run() {
  ServingRun run;
  run.backend = "sglang";
  run.dataset_name = "random";
  run.request_rate = INFINITY;
  run.max_concurrency = 16;
  run.random_input_len = run.random_output_len = 1000;
  return run;
}

constexpr const char* kPublishedReport = R"(
============ Serving Benchmark Result ============
Backend:                                 sglang    |
Traffic request rate:                    inf       |
Max request concurrency:                 16        |
Successful requests:                     80        |
Benchmark duration (s):                  34.30     |
Total input tokens:                      39668     |
Total input text tokens:                 39668     |
Total input vision tokens:               0         |
Total generated tokens:                  40805     |
Total generated tokens (retokenized):    40773     |
Request throughput (req/s):              2.33      |
Input token throughput (tok/s):          1156.62   |
Output token throughput (tok/s):         1189.77   |
Peak output token throughput (tok/s):    1392.00   |
Peak concurrent requests:                21        |
Total token throughput (tok/s):          2346.39   |
Concurrency:                             14.14     |
----------------End-to-End Latency----------------
Mean E2E Latency (ms):                   6060.62   |
Median E2E Latency (ms):                 6496.70   |
---------------Time to First Token----------------
Mean TTFT (ms):                          78.90     |
Median TTFT (ms):                        45.90     |
P99 TTFT (ms):                           234.33    |
-----Time per Output Token (excl. 1st token)------
Mean TPOT (ms):                          11.99     |
Median TPOT (ms):                        12.16     |
P99 TPOT (ms):                           14.81     |
---------------Inter-Token Latency----------------
Mean ITL (ms):                           11.75     |
Median ITL (ms):                         11.48     |
P95 ITL (ms):                            12.24     |
P99 ITL (ms):                            34.85     |
Max ITL (ms):                            105.01    |
==================================================
)";

// The bars show where the trailing spaces end.
std::string without_bars(std::string text) {
  std::erase(text, '|');
  return text;
}

TEST(ServingReport, PublishedReportToTheCharacter) {
  EXPECT_EQ(format_report(published_run(), published(), ReportKind::kStandard),
            without_bars(kPublishedReport));
}

TEST(ServingReport, OptionalRows) {
  ServingRun run = published_run();
  run.max_concurrency.reset();
  run.request_rate = 4;
  ServingMetrics m = published();
  m.accept_length = 2.5;
  m.goodput = 1.25;
  const std::string text = format_report(run, m, ReportKind::kStandard);
  EXPECT_THAT(text, HasSubstr("Max request concurrency:                 not set   \n"));
  EXPECT_THAT(text, HasSubstr("Traffic request rate:                    4.0       \n"));
  EXPECT_THAT(text, HasSubstr("Concurrency:                             14.14     \nAccept length: "
                              "                          2.50      \n"));
  EXPECT_THAT(text, Not(HasSubstr("Goodput")));
  const std::string extended = format_report(run, m, ReportKind::kExtended);
  EXPECT_THAT(extended, HasSubstr("Goodput (req/s):                         1.25      \n"));
  EXPECT_THAT(extended, HasSubstr("P90 TPOT (ms):"));
  EXPECT_THAT(extended, HasSubstr("P99 E2E Latency (ms):"));
}

TEST(ServingReport, PercentilesInterpolateLinearly) {
  EXPECT_EQ(percentile({}, 99), 0);
  EXPECT_EQ(percentile({3}, 99), 3);
  EXPECT_EQ(percentile({4, 1, 3, 2}, 50), 2.5);
  EXPECT_NEAR(percentile({4, 1, 3, 2}, 99), 3.97, 1e-12);
  EXPECT_EQ(percentile({4, 1, 3, 2}, 100), 4);
  EXPECT_EQ(percentile({4, 1, 3, 2}, 0), 1);
}

TEST(ServingReport, DistributionIsPopulationInMilliseconds) {
  const Distribution d = summarize_ms({0.002, 0.004, 0.004, 0.004, 0.005, 0.005, 0.007, 0.009});
  EXPECT_NEAR(d.mean, 5, 1e-9);
  EXPECT_NEAR(d.std, 2, 1e-9);
  EXPECT_NEAR(d.median, 4.5, 1e-9);
  EXPECT_NEAR(d.max, 9, 1e-9);
}

TEST(ServingReport, FiguresAndIdentities) {
  std::vector<RequestResult> results = {
      answer(100.0, 0.1, {0.1, 0.2}), answer(100.5, 0.2, {0.5, 0.5, 0.5}), answer(102.0, 0.3, {})};
  RequestResult failed;
  failed.error = "x";
  failed.prompt_len = 1000;
  failed.output_len = 1000;
  results.push_back(failed);
  const double duration = 4.0;
  const ServingMetrics m = compute_metrics(results, duration, two_bytes_a_token);
  EXPECT_EQ(m.completed, 3);
  EXPECT_EQ(m.total_input, 30);
  EXPECT_EQ(m.total_output, 3 + 4 + 1);
  EXPECT_EQ(m.total_output_retokenized, 9);
  EXPECT_NEAR(m.tpot_ms.mean, (150 + 500) / 2.0, 1e-6);  // the one-token answer has none
  EXPECT_NEAR(m.total_throughput, m.input_throughput + m.output_throughput, 1e-9);
  EXPECT_NEAR(m.concurrency, m.completed * m.e2e_ms.mean / 1000 / duration, 1e-9);
}

TEST(ServingReport, PeaksCountInSecondsFromTheFirstStart) {
  // Tokens at 0.1 0.2 0.4 | 0.7 | 1.2 1.7 2.2 | 2.3: four in the first second.
  const std::vector<RequestResult> results = {
      answer(100.0, 0.1, {0.1, 0.2}), answer(100.5, 0.2, {0.5, 0.5, 0.5}), answer(102.0, 0.3, {})};
  const ServingMetrics m = compute_metrics(results, 3.0, two_bytes_a_token);
  EXPECT_EQ(m.max_output_tokens_per_s, 4);
  EXPECT_EQ(m.max_concurrent_requests, 2);
}

TEST(ServingReport, SequentialRequestsMayShareASecond) {
  const ServingMetrics m = compute_metrics(std::vector{answer(0, 0.4, {}), answer(0.5, 0.4, {})},
                                           1.0, two_bytes_a_token);
  EXPECT_EQ(m.max_concurrent_requests, 2);
}

TEST(ServingReport, NothingSucceeded) {
  const ServingMetrics m = compute_metrics(std::vector<RequestResult>(2), 1.0, two_bytes_a_token);
  EXPECT_EQ(m.completed, 0);
  EXPECT_EQ(m.itl_ms.p99, 0);
  EXPECT_THAT(format_report(published_run(), m, ReportKind::kStandard),
              HasSubstr("Successful requests:                     0 "));
}

TEST(ServingReport, SpeculativeChunksAreSplit) {
  std::vector<RequestResult> results = {answer(0, 0.1, {0.4, 0.2})};
  results[0].chunks = {"abcd", "a"};
  split_itl_by_tokens(results, two_bytes_a_token);
  EXPECT_EQ(results[0].itl_s, (std::vector<double>{0.2, 0.2, 0.2}));
}

TEST(ServingReport, Goodput) {
  const std::vector<RequestResult> results = {answer(0, 0.1, {0.1, 0.2}), answer(0, 0.3, {0.5})};
  EXPECT_EQ(goodput(results, parse_service_goal("ttft:200"), 2.0), 0.5);
  EXPECT_EQ(goodput(results, parse_service_goal("ttft:400,tpot:200"), 2.0), 0.5);
  EXPECT_EQ(goodput(results, parse_service_goal("e2el:1000"), 2.0), 1.0);
  for (const char* bad : {"", "ttft", "ttft:x", "ttft:-1", "speed:3", "ttft:1,"}) {
    EXPECT_THROW(parse_service_goal(bad), Error) << bad;
  }
}

TEST(ServingReport, JsonLine) {
  const Json line = parse_json(json_line(published_run(), published(), {}), "line");
  EXPECT_EQ(line["request_rate"], "inf");
  EXPECT_EQ(line["tag"], nullptr);
  EXPECT_EQ(line["accept_length"], nullptr);
  EXPECT_EQ(line["server_info"], nullptr);
  for (const char* key : {"backend",
                          "dataset_name",
                          "max_concurrency",
                          "sharegpt_output_len",
                          "random_input_len",
                          "random_output_len",
                          "random_range_ratio",
                          "duration",
                          "completed",
                          "total_input_tokens",
                          "total_input_text_tokens",
                          "total_input_vision_tokens",
                          "total_output_tokens",
                          "total_output_tokens_retokenized",
                          "request_throughput",
                          "input_throughput",
                          "output_throughput",
                          "total_throughput",
                          "mean_e2e_latency_ms",
                          "median_e2e_latency_ms",
                          "std_e2e_latency_ms",
                          "p99_e2e_latency_ms",
                          "mean_ttft_ms",
                          "p99_ttft_ms",
                          "median_tpot_ms",
                          "std_tpot_ms",
                          "p95_itl_ms",
                          "p99_itl_ms",
                          "max_itl_ms",
                          "concurrency",
                          "max_output_tokens_per_s",
                          "max_concurrent_requests"}) {
    EXPECT_TRUE(line.contains(key)) << key;
  }
  EXPECT_FALSE(line.contains("ttfts"));
}

TEST(ServingReport, JsonDetails) {
  std::vector<RequestResult> results = {answer(0, 0.1, {0.1}), RequestResult{}};
  results[1].error = "boom";
  results[1].output_len = 5;
  const Json line = parse_json(json_line(published_run(), published(), results), "line");
  EXPECT_EQ(line["input_lens"], Json({10, 0}));
  EXPECT_EQ(line["output_lens"], Json({2, 0}));
  EXPECT_EQ(line["errors"], Json({"", "boom"}));
  EXPECT_EQ(line["itls"][0].size(), 1U);
  EXPECT_EQ(line["generated_texts"][0], "abcdef");
}

TEST(ServingReport, PythonFloats) {
  EXPECT_EQ(python_float(4), "4.0");
  EXPECT_EQ(python_float(0.5), "0.5");
  EXPECT_EQ(python_float(INFINITY), "inf");
}

}  // namespace
}  // namespace erne::bench
