// Prometheus metrics of spec serving.md 13, names as dashboards for SGLang expect them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace erne::server {

struct MetricsBuckets {
  std::vector<double> time_to_first_token, inter_token_latency,
      e2e_request_latency;  ///< empty: the defaults
};

/// Thread-safe.
class Metrics {
 public:
  Metrics(const std::string& prefix, const std::string& model_name, const MetricsBuckets& buckets,
          bool collect_tokens_histogram);
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;
  ~Metrics();

  void http_request();
  void http_response(int status);
  /// Prompt tokens count when a request's first output arrives, generated ones as they arrive.
  void prompt(int prompt_tokens, int cached_tokens, double time_to_first_token_s, double queue_s);
  void generated(int tokens);
  /// `seconds` since the choice's last output, which now brought `tokens`.
  void inter_token(double seconds, int tokens);
  enum class End { kFinished, kAborted };
  /// Once per request (all its choices).
  void request_ended(End end, double e2e_s, int prompt_tokens, int generated_tokens,
                     int retractions);
  void startup(double total_s, double load_s);

  /// The text of /metrics; gauges are read from `stats`.
  std::string text(const EngineStats& stats, size_t open_connections);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace erne::server
