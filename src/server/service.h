// What all routes share: options, the model once it is loaded, the text threads, metrics and the
// list of live requests.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "server/backend.h"
#include "server/http.h"
#include "server/metrics_api.h"
#include "server/task_pool.h"

namespace erne::server {

struct ServerOptions {
  HttpOptions http;
  std::string model_path;      ///< as the user wrote it
  std::string tokenizer_path;  ///< as the user wrote it
  std::string served_model_name;
  std::string weight_version = "default";
  std::optional<std::string> api_key, admin_api_key;
  std::string cors_allowed_origins = "*";  ///< "*", or a list with commas
  bool web_ui = true;
  bool strict_model_name = false;
  bool enable_cache_report = false;
  bool allow_auto_truncate = false;
  bool stream_output = false;  ///< /generate streams pieces instead of the whole text so far
  bool sampling_defaults_of_model = true;
  bool enable_metrics = false;
  bool collect_tokens_histogram = false;
  std::string metrics_prefix = "sglang";
  MetricsBuckets buckets;
  int stream_interval = 1;
  int text_threads = 1;
  std::optional<double> request_timeout_s;
  std::optional<int> max_queued_requests;  ///< the engine's limits: at them /ready says no
  std::optional<int64_t> max_queued_tokens;
  std::optional<int> log_requests_level;  ///< 0 metadata … 3 everything; absent: off
  bool log_requests_as_json = false;
  std::string template_kwargs = "{}";   ///< JSON object: defaults for chat_template_kwargs
  std::string launch_arguments = "{}";  ///< JSON object for /get_server_info, without keys
};

enum class Phase { kStarting, kReady, kDraining };

/// Requests that are being answered, by the id clients know (rid). Thread-safe.
class LiveRequests {
 public:
  /// False if `rid` is live already. `cancel` may be called from any thread.
  bool add(const std::string& rid, std::function<void()> cancel);
  void remove(const std::string& rid);
  /// Cancels every request whose rid starts with `prefix`.
  void cancel(std::string_view prefix);
  size_t size() const;

 private:
  mutable std::mutex mutex_;
  std::map<std::string, std::function<void()>, std::less<>> live_;
};

struct Service {
  explicit Service(ServerOptions o)
      : options(std::move(o)),
        metrics(options.metrics_prefix, options.served_model_name, options.buckets,
                options.collect_tokens_histogram) {}

  /// From now on requests are let in. `backend` must outlive the pools.
  void attach(Backend& backend);

  const ServerOptions options;
  Metrics metrics;
  LiveRequests live;
  std::atomic<Phase> phase = Phase::kStarting;
  std::atomic<Backend*> backend = nullptr;  ///< set before kReady, never changed after
  size_t longest_token_bytes = 0;           ///< set with backend
  std::atomic<uint64_t> cancelled_total = 0;
  double start_time_s = 0;  ///< Unix time
  std::function<void(std::chrono::milliseconds, std::function<void()>)>
      later;                                ///< HttpServer::call_later
  std::function<size_t()> num_connections;  ///< HttpServer's
  std::function<size_t()> num_busy;         ///< likewise
  std::atomic<int> handling = 0;  ///< requests on their way from the io thread to being live
  TaskPool parse_pool{options.text_threads};  ///< requests: JSON, templates, tokenizing
  TaskPool control_pool{1};                   ///< stats, models and aborts: never behind a prompt
  TaskPool format_pool{1};  ///< answers; apart, so that a huge prompt does not stall streams
};

/// Unix time.
double unix_time_s();

}  // namespace erne::server
