// Prometheus metrics of spec serving.md 13, names as dashboards for SGLang expect them.
#pragma once

#include <memory>
#include <optional>
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
  /// A request's first output has arrived: its prompt tokens count now, generated ones as they
  /// come.
  struct FirstToken {
    int prompt_tokens, cached_tokens;
    double tokenize_s;  ///< from the first byte to the engine
    double queue_s;     ///< until it is scheduled
    double prefill_s;   ///< until the token is there
  };
  void first_token(const FirstToken& first);
  void generated(int tokens);
  /// `seconds` since the choice's last output, which now brought `tokens`.
  void inter_token(double seconds, int tokens);
  enum class End { kFinished, kAborted };
  struct Ended {
    End end;
    double e2e_s;
    std::optional<double> decode_s;  ///< first to last token, if there is more than one output
    int prompt_tokens, generated_tokens, retractions;
  };
  /// Once per request (all its choices).
  void request_ended(const Ended& ended);
  void startup(double total_s, double load_s);

  /// The text of /metrics; gauges and what the scheduler counts are read from `stats`.
  std::string text(const EngineStats& stats, size_t active_requests);

 private:
  /// Label `stage` of per_stage_req_latency_seconds.
  enum class Stage { kTokenize, kQueue, kPrefill, kDecode };
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace erne::server
