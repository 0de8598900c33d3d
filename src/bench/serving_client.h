// The load: hands requests to a server at their arrival times, at most so many at once, and
// collects what came back (spec bench.md 1.1 and 1.6).
#pragma once

#include <functional>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "bench/curl_loop.h"
#include "bench/random_streams.h"
#include "bench/serving_backend.h"

namespace erne::bench {

struct ServingTarget {
  ServingBackend backend;
  std::string base_url;              ///< "http://127.0.0.1:30000", no slash at the end
  std::vector<std::string> headers;  ///< sent with every request, "Name: value"
  BodyOptions body;
  double request_timeout_s = 6 * 3600;
};

struct LoadShape {
  double request_rate =
      std::numeric_limits<double>::infinity();  ///< requests a second; infinity: all at once
  std::optional<int> max_concurrency;
};

struct LoadResult {
  std::vector<RequestResult> requests;  ///< in the order of the dataset
  double start_s = 0;                   ///< CurlLoop::now_s at the first hand-out
};

class ServingClient {
 public:
  explicit ServingClient(ServingTarget target) : target_(std::move(target)) {}

  /// Sends everything and waits. `on_done(result)` after each answer. Intervals are drawn from
  /// `arrivals` (an infinite rate draws nothing). A failed request never stops the run.
  LoadResult run(std::span<const BenchRequest> requests, const LoadShape& shape,
                 NumpyRandom& arrivals, const std::function<void(const RequestResult&)>& on_done);

  HttpAnswer get(const std::string& path, double timeout_s);
  HttpAnswer post(const std::string& path, double timeout_s);
  /// Polls /health until it answers 200; false after `timeout_s`, with the last failure in `why`.
  bool wait_until_ready(double timeout_s, std::string& why);

  const ServingTarget& target() const { return target_; }
  void set_model(std::string model) { target_.body.model = std::move(model); }

 private:
  HttpAnswer exchange(const std::string& path, bool post, double timeout_s);

  ServingTarget target_;
  CurlLoop loop_;
};

}  // namespace erne::bench
