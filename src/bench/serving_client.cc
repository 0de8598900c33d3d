#include "bench/serving_client.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <memory>

#include "base/error.h"

namespace erne::bench {
namespace {

// One request in flight: feeds its reader, then files the result under its place in the dataset.
class InFlight final : public TransferSink {
 public:
  InFlight(AnswerReader reader, std::function<void(RequestResult)> file)
      : reader_(std::move(reader)), file_(std::move(file)) {}

  void on_bytes(std::string_view bytes, double now_s) override { reader_.feed(bytes, now_s); }
  void on_end(int http_status, const std::string& error, double now_s) override {
    file_(reader_.finish(http_status, error, now_s));
  }

 private:
  AnswerReader reader_;
  std::function<void(RequestResult)> file_;
};

// When request i is handed out, in seconds after the first: sums of exponential intervals.
std::vector<double> arrival_times(size_t count, double rate, NumpyRandom& arrivals) {
  std::vector<double> times(count, 0.0);
  if (std::isinf(rate)) return times;
  double at = 0;
  for (double& time : times) {
    time = at;
    at += arrivals.exponential(1.0 / rate);
  }
  return times;
}

}  // namespace

LoadResult ServingClient::run(std::span<const BenchRequest> requests, const LoadShape& shape,
                              NumpyRandom& arrivals,
                              const std::function<void(const RequestResult&)>& on_done) {
  const std::vector<double> times = arrival_times(requests.size(), shape.request_rate, arrivals);
  const size_t slots = shape.max_concurrency
                           ? static_cast<size_t>(std::max(*shape.max_concurrency, 1))
                           : requests.size();
  // Bodies are made before the clock starts: encoding a long prompt must not delay the others'
  // chunks.
  std::vector<std::string> bodies;
  for (const BenchRequest& request : requests) {
    bodies.push_back(request_body(target_.backend, request, request.output_len, target_.body));
  }
  LoadResult result;
  result.requests.resize(requests.size());
  std::vector<std::unique_ptr<InFlight>> flights(requests.size());
  size_t next = 0, running = 0;
  auto launch = [&](size_t i) {
    AnswerReader reader(target_.backend.api, target_.body.stream, requests[i].output_len,
                        CurlLoop::now_s());
    flights[i] = std::make_unique<InFlight>(std::move(reader), [&, i](RequestResult answer) {
      answer.prompt_len = requests[i].prompt_len;
      result.requests[i] = std::move(answer);
      --running;
      on_done(result.requests[i]);
    });
    ++running;
    loop_.start({.url = target_.base_url + std::string(backend_path(target_.backend.api)),
                 .post = true,
                 .body = std::move(bodies[i]),
                 .headers = target_.headers,
                 .timeout_s = target_.request_timeout_s},
                *flights[i]);
  };
  result.start_s = CurlLoop::now_s();
  while (next < requests.size() || running > 0) {
    while (next < requests.size() && running < slots &&
           CurlLoop::now_s() >= result.start_s + times[next]) {
      launch(next++);
    }
    const bool waits_for_time = next < requests.size() && running < slots;
    loop_.run_until(waits_for_time ? result.start_s + times[next] : CurlLoop::now_s() + 60);
  }
  return result;
}

HttpAnswer ServingClient::exchange(const std::string& path, bool post, double timeout_s) {
  return fetch(loop_, {.url = target_.base_url + path,
                       .post = post,
                       .body = post ? "{}" : "",
                       .headers = target_.headers,
                       .timeout_s = timeout_s});
}

HttpAnswer ServingClient::get(const std::string& path, double timeout_s) {
  return exchange(path, false, timeout_s);
}

HttpAnswer ServingClient::post(const std::string& path, double timeout_s) {
  return exchange(path, true, timeout_s);
}

bool ServingClient::wait_until_ready(double timeout_s, std::string& why) {
  const double deadline = CurlLoop::now_s() + timeout_s;
  for (;;) {
    const HttpAnswer answer = get("/health", 10);
    if (answer.status == 200) return true;
    why = answer.status == 0 ? answer.error
                             : fmt::format("HTTP {} {}", answer.status, answer.body.substr(0, 200));
    const double now = CurlLoop::now_s();
    if (now >= deadline) return false;
    loop_.run_until(std::min(deadline, now + 0.5));
  }
}

}  // namespace erne::bench
