// HTTP/1.1 connections: bytes to HttpRequest and answers back, with limits, keep-alive, pipelining,
// slow clients and disconnects. Knows nothing of the API above it; the API sees only this header
// (RFC 9112; design: docs/architecture.md).
//
// Threads: one io thread runs everything in here. HttpResponder may be used from any thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace erne::server {

struct Header {
  std::string name;
  std::string value;
};

struct HttpRequest {
  std::string method;
  std::string path;   ///< without the query, percent escapes kept
  std::string query;  ///< without '?'
  std::vector<Header> headers;
  std::string body;
  std::string id;  ///< x-request-id: the client's if sane, else a fresh one
  std::chrono::steady_clock::time_point received = std::chrono::steady_clock::now();
  bool has_body = false;  ///< the header announces one (check_head runs before it is read)

  /// First header of that name in any case; empty if absent.
  std::string_view header(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::vector<Header> headers;
  /// Of a stream: bytes to send whenever nothing was sent for HttpOptions::ping_interval; empty:
  /// none.
  std::string ping;
};

/// The way back to one request's client. Exactly one of respond() or begin() … end() is called.
class HttpResponder {
 public:
  virtual ~HttpResponder() = default;
  virtual void respond(HttpResponse response) = 0;
  /// Status and headers now; the body follows.
  virtual void begin(HttpResponse head) = 0;
  /// Sent at once; never blocks. Dropped silently when the client has gone.
  virtual void write(std::string bytes) = 0;
  virtual void end() = 0;
  /// Whether HttpOptions::max_pending_bytes wait for the client: write no more until on_drain.
  virtual bool full() const = 0;
  /// Called once on the io thread if the client goes, or reads too slowly, before end(); at once if
  /// it has gone already.
  virtual void on_close(std::function<void()> callback) = 0;
  /// Called on the io thread each time full() turns false again.
  virtual void on_drain(std::function<void()> callback) = 0;
};

/// What the connections ask of the API. All calls come on the io thread and must be quick.
class HttpApp {
 public:
  virtual ~HttpApp() = default;
  /// Before the body is read (the request has none yet): an answer refuses the request.
  virtual std::optional<HttpResponse> check_head(const HttpRequest& request) = 0;
  virtual void handle(HttpRequest request, std::shared_ptr<HttpResponder> responder) = 0;
  /// The answer to bytes that are no acceptable request (400, 408, 413, 431).
  virtual HttpResponse refuse(int status, std::string_view message) = 0;
  /// Sees every answer before it is sent: adds headers, counts.
  virtual void decorate(const HttpRequest& request, HttpResponse& response) = 0;
};

struct HttpOptions {
  std::string host = "127.0.0.1";
  uint16_t port = 0;  ///< 0: any free one
  size_t max_body_bytes = size_t{128} << 20;
  size_t max_header_bytes = size_t{64} << 10;
  size_t max_pending_bytes = size_t{1} << 20;
  std::chrono::milliseconds header_timeout{30'000};
  std::chrono::milliseconds idle_timeout{75'000};  ///< of a kept-alive connection
  std::chrono::milliseconds stall_timeout{
      60'000};  ///< a client that takes nothing, or stays full, this long is dropped
  std::chrono::milliseconds ping_interval{15'000};
  size_t min_body_rate =
      10'000;  ///< bytes/s that a body must bring on average, after header_timeout
};

class HttpServer {
 public:
  /// Listens at once; throws Error{kIo} naming address and cause. `app` must outlive the server.
  HttpServer(const HttpOptions& options, HttpApp& app);
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;
  /// Closes every connection and joins the io thread.
  ~HttpServer();

  uint16_t port() const;
  /// Connections open now. Thread-safe.
  size_t num_connections() const;
  /// Connections whose request is not answered in full yet. Thread-safe.
  size_t num_busy() const;
  /// Runs `task` on the io thread after a delay; dropped when the server is destroyed first.
  /// Thread-safe.
  void call_later(std::chrono::milliseconds delay, std::function<void()> task);

  struct State;  ///< of http.cc

 private:
  std::unique_ptr<State> state_;
};

/// Percent-decodes a path segment or query value ("%2F" to "/"); nullopt for a broken escape.
std::optional<std::string> percent_decode(std::string_view text);
/// The value of `key` in a query string, decoded; nullopt if absent.
std::optional<std::string> query_value(std::string_view query, std::string_view key);
/// 32 random hex digits.
std::string fresh_id();

}  // namespace erne::server
