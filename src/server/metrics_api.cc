#include "server/metrics_api.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

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
const Buckets kRetractions = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 20, 50};
const Buckets kTokens = {100,   300,    500,    700,    1000,   1500,   2000,  3000,
                         4000,  5000,   6000,   7000,   8000,   9000,   10000, 12000,
                         15000, 20000,  22000,  25000,  30000,  35000,  40000, 66000,
                         99000, 132000, 300000, 600000, 900000, 1100000};

const Buckets& or_default(const std::vector<double>& own, const Buckets& standard) {
  return own.empty() ? standard : own;
}

}  // namespace

struct Metrics::State {
  prometheus::Registry registry;
  std::string prefix;
  prometheus::Labels model, rank;

  Counter& counter(const char* name, const char* help, const prometheus::Labels& labels) {
    return prometheus::BuildCounter().Name(prefix + name).Help(help).Register(registry).Add(labels);
  }
  Gauge& gauge(const char* name, const char* help) {
    return prometheus::BuildGauge().Name(prefix + name).Help(help).Register(registry).Add(rank);
  }
  Histogram& histogram(const char* name, const char* help, const Buckets& buckets) {
    return prometheus::BuildHistogram()
        .Name(prefix + name)
        .Help(help)
        .Register(registry)
        .Add(model, buckets);
  }

  Counter *prompt_tokens, *generation_tokens, *cached_tokens, *requests, *aborted, *evicted,
      *http_requests;
  prometheus::Family<Counter>* http_responses;
  Gauge *running, *queued, *used, *usage, *max_total, *throughput, *hit_rate, *retracted, *paused,
      *utilization, *graph, *startup, *load_weights, *kv_available, *kv_evictable, *kv_used,
      *http_active;
  Histogram *first_token, *end_to_end, *inter_token, *queue_time, *retractions;
  Histogram* prompt_histogram = nullptr;
  Histogram* generation_histogram = nullptr;

  void make_counters();
  void make_gauges();
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
  retracted = &gauge("num_retracted_reqs", "Retractions since the start.");
  paused = &gauge("num_paused_reqs", "Requests paused (always 0 in this version).");
  utilization = &gauge("utilization", "Share of the KV pool in use.");
  graph = &gauge("is_cuda_graph", "1 if the last step ran as a graph.");
  startup = &gauge("engine_startup_time", "Seconds from start to ready.");
  load_weights = &gauge("engine_load_weights_time", "Seconds to load the weights.");
  kv_available = &gauge("kv_available_tokens", "KV tokens free.");
  kv_evictable =
      &gauge("kv_evictable_tokens", "KV tokens of the prefix cache that may be evicted.");
  kv_used = &gauge("kv_used_tokens", "KV tokens held by live requests.");
  http_active = &gauge("http_requests_active", "Open connections.");
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
  s.first_token = &s.histogram("time_to_first_token_seconds", "Time to the first token.",
                               or_default(buckets.time_to_first_token, kFirstToken));
  s.end_to_end = &s.histogram("e2e_request_latency_seconds", "Time to the last token.",
                              or_default(buckets.e2e_request_latency, kEndToEnd));
  s.inter_token = &s.histogram("inter_token_latency_seconds", "Time between tokens.",
                               or_default(buckets.inter_token_latency, kInterToken));
  s.queue_time = &s.histogram("queue_time_seconds", "Time before the first step.", kQueue);
  s.retractions = &s.histogram("num_retractions", "Retractions of a request.", kRetractions);
  if (!collect_tokens_histogram) return;
  s.prompt_histogram =
      &s.histogram("prompt_tokens_histogram", "Prompt tokens of a request.", kTokens);
  s.generation_histogram =
      &s.histogram("generation_tokens_histogram", "Generated tokens of a request.", kTokens);
}

Metrics::~Metrics() = default;

void Metrics::http_request() { state_->http_requests->Increment(); }

void Metrics::http_response(int status) {
  prometheus::Labels labels = state_->model;
  labels["status_code"] = std::to_string(status);
  state_->http_responses->Add(labels).Increment();
}

void Metrics::prompt(int prompt_tokens, int cached_tokens, double time_to_first_token_s,
                     double queue_s) {
  state_->prompt_tokens->Increment(prompt_tokens);
  state_->cached_tokens->Increment(cached_tokens);
  state_->first_token->Observe(time_to_first_token_s);
  state_->queue_time->Observe(queue_s);
}

void Metrics::generated(int tokens) { state_->generation_tokens->Increment(tokens); }

void Metrics::inter_token(double seconds, int tokens) {
  for (int i = 0; i < tokens; ++i) state_->inter_token->Observe(seconds / tokens);
}

void Metrics::request_ended(End end, double e2e_s, int prompt_tokens, int generated_tokens,
                            int retractions) {
  state_->requests->Increment();
  state_->retractions->Observe(retractions);
  if (end == End::kAborted) {
    state_->aborted->Increment();
    return;
  }
  state_->end_to_end->Observe(e2e_s);
  if (state_->prompt_histogram != nullptr) {
    state_->prompt_histogram->Observe(prompt_tokens);
    state_->generation_histogram->Observe(generated_tokens);
  }
}

void Metrics::startup(double total_s, double load_s) {
  state_->startup->Set(total_s);
  state_->load_weights->Set(load_s);
}

std::string Metrics::text(const EngineStats& stats, size_t open_connections) {
  State& s = *state_;
  const auto share = [](double part, double whole) { return whole > 0 ? part / whole : 0; };
  const double pool = static_cast<double>(stats.pool_tokens);
  const double use = share(static_cast<double>(stats.used_tokens), pool);
  s.running->Set(stats.running);
  s.queued->Set(stats.queued);
  s.used->Set(static_cast<double>(stats.used_tokens));
  s.kv_used->Set(static_cast<double>(stats.used_tokens));
  s.usage->Set(use);
  s.utilization->Set(use);
  s.max_total->Set(pool);
  s.throughput->Set(stats.gen_throughput);
  s.hit_rate->Set(share(static_cast<double>(stats.cached_tokens_total),
                        static_cast<double>(stats.prompt_tokens_total)));
  s.retracted->Set(static_cast<double>(stats.retractions_total));
  s.kv_available->Set(static_cast<double>(stats.free_tokens));
  s.kv_evictable->Set(static_cast<double>(stats.cached_tokens));
  s.http_active->Set(static_cast<double>(open_connections));
  const double evicted = static_cast<double>(stats.evicted_tokens_total);
  if (evicted > s.evicted->Value()) s.evicted->Increment(evicted - s.evicted->Value());
  return prometheus::TextSerializer().Serialize(s.registry.Collect());
}

}  // namespace erne::server
