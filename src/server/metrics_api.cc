#include "server/metrics_api.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <utility>

namespace erne::server {
namespace {

using prometheus::Counter;
using prometheus::Gauge;
using prometheus::Histogram;
using Buckets = Histogram::BucketBoundaries;

const Buckets kFirstToken = {.1, .2, .4, .6, .8, 1, 2, 4, 6, 8, 10, 20, 40, 60, 80, 100, 200, 400};
const Buckets kEndToEnd = {.1, .2, .4, .6, .8,  1,   2,   4,   6,    8,    10,
                           20, 40, 60, 80, 100, 200, 400, 600, 1200, 1800, 2400};
const Buckets kInterToken = {.002, .004, .006, .008, .01, .015, .02, .025, .03, .035, .04, .06,
                             .08,  .1,   .2,   .4,   .6,  .8,   1,   2,    4,   6,    8};
const Buckets kQueue = {.001, .002, .005, .01, .02, .05, .1,  .2,  .5,
                        1,    2,    5,    10,  20,  50,  100, 200, 400};
/// 1 ms to 20 minutes, each 1.62 times the one before.
Buckets stage_buckets() {
  Buckets buckets = {0.001};
  while (buckets.size() < 30) buckets.push_back(buckets.back() * 1.62);
  return buckets;
}
const Buckets kRetractions = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 20, 50};
const Buckets kTokens = {100,   300,    500,    700,    1000,   1500,   2000,  3000,
                         4000,  5000,   6000,   7000,   8000,   9000,   10000, 12000,
                         15000, 20000,  22000,  25000,  30000,  35000,  40000, 66000,
                         99000, 132000, 300000, 600000, 900000, 1100000};

/// Names as the reference has them; in the order of Metrics::Stage.
constexpr std::array kStages = {"tokenize", "prefill_waiting", "prefill_forward", "decode_loop"};

const Buckets& or_default(const std::vector<double>& own, const Buckets& standard) {
  return own.empty() ? standard : own;
}

prometheus::Labels with(prometheus::Labels labels, const char* name, const std::string& value) {
  labels[name] = value;
  return labels;
}

/// Brings a counter up to a total that the engine keeps.
void raise(Counter& counter, uint64_t total) {
  const double missing = static_cast<double>(total) - counter.Value();
  if (missing > 0) counter.Increment(missing);
}

double share(double part, double whole) { return whole > 0 ? part / whole : 0; }

}  // namespace

struct Metrics::State {
  std::mutex mutex;  // text() alone
  prometheus::Registry registry;
  std::string prefix;
  prometheus::Labels model, rank;

  Counter& counter(const char* name, const char* help, const prometheus::Labels& labels) {
    return prometheus::BuildCounter().Name(prefix + name).Help(help).Register(registry).Add(labels);
  }
  Gauge& gauge(const char* name, const char* help) {
    return prometheus::BuildGauge().Name(prefix + name).Help(help).Register(registry).Add(rank);
  }
  Histogram& histogram(const char* name, const char* help, const Buckets& buckets,
                       const prometheus::Labels& labels) {
    return prometheus::BuildHistogram()
        .Name(prefix + name)
        .Help(help)
        .Register(registry)
        .Add(labels, buckets);
  }

  Counter *prompt_tokens, *generation_tokens, *cached_tokens, *requests, *aborted, *evicted,
      *retracted_requests, *retracted_input, *retracted_output, *http_requests;
  Counter *prefill_compute, *prefill_cache, *decode;  // of realtime_tokens_total
  prometheus::Family<Counter>* http_responses;
  Gauge *running, *queued, *used, *usage, *max_total, *throughput, *hit_rate, *retracted,
      *utilization, *seq_lens, *new_token_ratio, *startup, *load_weights, *kv_available,
      *kv_evictable, *kv_used, *http_active;
  Histogram *first_token, *end_to_end, *inter_token, *queue_time, *retractions;
  std::array<Histogram*, kStages.size()> stages;
  Histogram* prompt_histogram = nullptr;
  Histogram* generation_histogram = nullptr;

  void make_counters();
  void make_gauges();
  void make_histograms(const MetricsBuckets& buckets, bool collect_tokens);
  void set_gauges(const EngineStats& stats);
  void raise_counters(const EngineStats& stats);
  void stage(Stage stage, double seconds) {
    stages.at(static_cast<size_t>(stage))->Observe(seconds);
  }
};

void Metrics::State::make_counters() {
  prompt_tokens = &counter("prompt_tokens_total", "Prompt tokens processed.", model);
  generation_tokens = &counter("generation_tokens_total", "Tokens generated.", model);
  cached_tokens =
      &counter("cached_tokens_total", "Prompt tokens taken from the prefix cache.", model);
  requests =
      &counter("num_requests_total", "Requests that have ended, aborted ones among them.", model);
  aborted = &counter("num_aborted_requests_total", "Requests that were aborted.", model);
  evicted = &counter("evicted_tokens_total", "Tokens evicted from the prefix cache.", rank);
  retracted_requests = &counter("num_retracted_requests_total", "Retractions.", rank);
  retracted_input =
      &counter("num_retracted_input_tokens_total", "Prompt tokens of retracted requests.", rank);
  retracted_output = &counter("num_retracted_output_tokens_total",
                              "Tokens that retracted requests had generated.", rank);
  auto& realtime = prometheus::BuildCounter()
                       .Name(prefix + "realtime_tokens_total")
                       .Help(
                           "Tokens as they are worked on: computed in prefill, spared by the "
                           "prefix cache, or generated.")
                       .Register(registry);
  prefill_compute = &realtime.Add(with(rank, "mode", "prefill_compute"));
  prefill_cache = &realtime.Add(with(rank, "mode", "prefill_cache"));
  decode = &realtime.Add(with(rank, "mode", "decode"));
  http_requests = &counter("http_requests_total", "HTTP requests received.", model);
  http_responses = &prometheus::BuildCounter()
                        .Name(prefix + "http_responses_total")
                        .Help("HTTP answers by status code.")
                        .Register(registry);
}

void Metrics::State::make_gauges() {
  running = &gauge("num_running_reqs", "Requests running.");
  queued = &gauge("num_queue_reqs", "Requests waiting.");
  used = &gauge("num_used_tokens", "KV tokens held by live requests.");
  usage = &gauge("token_usage", "Share of the KV pool held by live requests.");
  max_total = &gauge("max_total_num_tokens", "Size of the KV pool in tokens.");
  throughput = &gauge("gen_throughput", "Generated tokens per second.");
  hit_rate = &gauge("cache_hit_rate",
                    "Share of prompt tokens found in the prefix cache, since the start.");
  retracted = &gauge("num_retracted_reqs", "Retracted requests that wait to go on.");
  utilization = &gauge("utilization",
                       "Share in use of what is scarcer: the KV pool or --max-running-requests.");
  seq_lens = &gauge("decode_sum_seq_lens", "Tokens of the sequences that decode, added up.");
  new_token_ratio =
      &gauge("new_token_ratio", "Share of its remaining output that a request is expected to use.");
  startup = &gauge("engine_startup_time", "Seconds from start to ready.");
  load_weights = &gauge("engine_load_weights_time", "Seconds to load the weights.");
  kv_available = &gauge("kv_available_tokens", "KV tokens free.");
  kv_evictable =
      &gauge("kv_evictable_tokens", "KV tokens of the prefix cache that may be evicted.");
  kv_used = &gauge("kv_used_tokens", "KV tokens held by live requests.");
  http_active = &gauge("http_requests_active", "Requests that are being received or answered.");
}

void Metrics::State::make_histograms(const MetricsBuckets& buckets, bool collect_tokens) {
  first_token = &histogram("time_to_first_token_seconds", "Time to the first token.",
                           or_default(buckets.time_to_first_token, kFirstToken), model);
  end_to_end = &histogram("e2e_request_latency_seconds", "Time to the last token.",
                          or_default(buckets.e2e_request_latency, kEndToEnd), model);
  inter_token = &histogram("inter_token_latency_seconds", "Time between tokens.",
                           or_default(buckets.inter_token_latency, kInterToken), model);
  queue_time = &histogram("queue_time_seconds", "Time before the first step.", kQueue, rank);
  for (size_t i = 0; i < stages.size(); ++i) {
    stages[i] = &histogram("per_stage_req_latency_seconds", "Time of a request by stage.",
                           stage_buckets(), with(rank, "stage", kStages[i]));
  }
  retractions = &histogram("num_retractions", "Retractions of a request.", kRetractions, model);
  if (!collect_tokens) return;
  prompt_histogram =
      &histogram("prompt_tokens_histogram", "Prompt tokens of a request.", kTokens, model);
  generation_histogram =
      &histogram("generation_tokens_histogram", "Generated tokens of a request.", kTokens, model);
}

Metrics::Metrics(const std::string& prefix, const std::string& model_name,
                 const MetricsBuckets& buckets, bool collect_tokens_histogram)
    : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.prefix = prefix + ":";
  s.model = {{"model_name", model_name}};
  s.rank = {{"model_name", model_name},
            {"engine_type", "unified"},
            {"tp_rank", "0"},
            {"pp_rank", "0"},
            {"dp_rank", "0"}};
  s.make_counters();
  s.make_gauges();
  s.make_histograms(buckets, collect_tokens_histogram);
}

Metrics::~Metrics() = default;

void Metrics::http_request() { state_->http_requests->Increment(); }

void Metrics::http_response(int status) {
  state_->http_responses->Add(with(state_->model, "status_code", std::to_string(status)))
      .Increment();
}

void Metrics::first_token(const FirstToken& first) {
  State& s = *state_;
  s.prompt_tokens->Increment(first.prompt_tokens);
  s.cached_tokens->Increment(first.cached_tokens);
  s.first_token->Observe(first.tokenize_s + first.queue_s + first.prefill_s);
  s.queue_time->Observe(first.queue_s);
  s.stage(Stage::kTokenize, first.tokenize_s);
  s.stage(Stage::kQueue, first.queue_s);
  s.stage(Stage::kPrefill, first.prefill_s);
}

void Metrics::generated(int tokens) { state_->generation_tokens->Increment(tokens); }

void Metrics::inter_token(double seconds, int tokens) {
  for (int i = 0; i < tokens; ++i) state_->inter_token->Observe(seconds / tokens);
}

void Metrics::request_ended(const Ended& ended) {
  State& s = *state_;
  s.requests->Increment();
  s.retractions->Observe(ended.retractions);
  if (ended.end == End::kAborted) {
    s.aborted->Increment();
    return;
  }
  s.end_to_end->Observe(ended.e2e_s);
  if (ended.decode_s) s.stage(Stage::kDecode, *ended.decode_s);
  if (s.prompt_histogram == nullptr) return;
  s.prompt_histogram->Observe(ended.prompt_tokens);
  s.generation_histogram->Observe(ended.generated_tokens);
}

void Metrics::startup(double total_s, double load_s) {
  state_->startup->Set(total_s);
  state_->load_weights->Set(load_s);
}

void Metrics::State::set_gauges(const EngineStats& stats) {
  const auto set = [](Gauge* gauge, auto value) { gauge->Set(static_cast<double>(value)); };
  const double use =
      share(static_cast<double>(stats.used_tokens), static_cast<double>(stats.pool_tokens));
  set(running, stats.running);
  set(queued, stats.queued);
  set(retracted, stats.retracted);
  set(used, stats.used_tokens);
  set(kv_used, stats.used_tokens);
  set(usage, use);
  set(utilization, std::max(use, share(stats.running, stats.max_running)));
  set(seq_lens, stats.decode_seq_lens);
  set(new_token_ratio, stats.new_token_ratio);
  set(max_total, stats.pool_tokens);
  set(throughput, stats.gen_throughput);
  set(hit_rate, share(static_cast<double>(stats.cached_tokens_total),
                      static_cast<double>(stats.prompt_tokens_total)));
  set(kv_available, stats.free_tokens);
  set(kv_evictable, stats.cached_tokens);
}

void Metrics::State::raise_counters(const EngineStats& stats) {
  for (const auto& [counter, total] : {std::pair(evicted, stats.evicted_tokens_total),
                                       {retracted_requests, stats.retractions_total},
                                       {retracted_input, stats.retracted_prompt_tokens_total},
                                       {retracted_output, stats.retracted_output_tokens_total},
                                       {prefill_compute, stats.prefill_tokens_total},
                                       {prefill_cache, stats.prefill_cached_tokens_total},
                                       {decode, stats.generation_tokens_total}}) {
    raise(*counter, total);
  }
}

std::string Metrics::text(const EngineStats& stats, size_t active_requests) {
  State& s = *state_;
  const std::lock_guard lock(s.mutex);
  s.set_gauges(stats);
  s.raise_counters(stats);
  s.http_active->Set(static_cast<double>(active_requests));
  return prometheus::TextSerializer().Serialize(s.registry.Collect());
}

}  // namespace erne::server
