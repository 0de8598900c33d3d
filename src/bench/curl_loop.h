// Many HTTP transfers on one thread: libcurl's multi interface driven by epoll, so that a wake-up
// costs what is ready and not what is open (thousands of event streams at once).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace erne::bench {

/// One HTTP exchange. A GET when `body` is absent.
struct HttpRequest {
  std::string url;
  bool post = false;
  std::string body{};
  std::vector<std::string> headers{};  ///< "Name: value"
  double timeout_s = 0;                ///< 0: none
};

/// Called from CurlLoop::run_until. now_s as CurlLoop::now_s.
class TransferSink {
 public:
  virtual ~TransferSink() = default;
  virtual void on_bytes(std::string_view bytes, double now_s) = 0;
  /// The last call. `http_status` is 0 and `error` says why when no answer came or it broke off.
  virtual void on_end(int http_status, const std::string& error, double now_s) = 0;
};

/// Single-threaded.
class CurlLoop {
 public:
  CurlLoop();
  CurlLoop(const CurlLoop&) = delete;
  CurlLoop& operator=(const CurlLoop&) = delete;
  ~CurlLoop();

  /// Seconds on a monotonic clock.
  static double now_s();

  /// The sink must live until on_end.
  void start(const HttpRequest& request, TransferSink& sink);
  int active() const;
  /// Closes what still runs without calling its sinks.
  void drop_all();
  /// Moves transfers until `deadline_s`, until at least one has ended, or until none is left.
  /// Throws Error{kIo} when the operating system refuses.
  void run_until(double deadline_s);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

struct HttpAnswer {
  int status = 0;     ///< 0: no answer
  std::string error;  ///< why there is none
  std::string body;   ///< at most 64 MiB are kept
};

/// One exchange, waited for.
HttpAnswer fetch(CurlLoop& loop, const HttpRequest& request);

/// Raises the soft limit of open files towards `wanted`; returns what holds now.
size_t raise_file_limit(size_t wanted);

}  // namespace erne::bench
