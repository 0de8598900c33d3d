// One request's answer on its way from the API's threads to the io thread: a buffer, two callbacks
// and a wake-up.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <optional>
#include <string>

#include "server/http.h"

namespace erne::server {

/// The API side (HttpResponder) may be called from any thread, the rest from the io thread only.
class Exchange final : public HttpResponder {
 public:
  /// `notify` wakes the connection; called from any thread, must not block.
  Exchange(size_t max_pending_bytes, std::function<void()> notify)
      : limit_(max_pending_bytes), notify_(std::move(notify)) {}

  void respond(HttpResponse response) override;
  void begin(HttpResponse head) override;
  void write(std::string bytes) override;
  void end() override;
  bool full() const override;
  void on_close(std::function<void()> callback) override;
  void on_drain(std::function<void()> callback) override;

  struct Batch {
    std::optional<HttpResponse> head;  ///< set once
    bool complete = false;             ///< head holds the whole answer
    std::string bytes;
    bool ended = false;
  };
  /// What has come since the last call. Its bytes count as pending until written().
  Batch take();
  bool has_output() const;
  /// The last batch has reached the socket.
  void written();
  /// The client is gone: calls the on_close callback unless the answer is complete, drops what
  /// comes later.
  void client_gone();
  /// How long full() has been true without a break.
  std::chrono::steady_clock::duration full_for() const;

 private:
  bool is_full() const { return out_.size() + in_flight_ >= limit_; }
  void wake(std::unique_lock<std::mutex>& lock);
  void note_full();

  const size_t limit_;
  const std::function<void()> notify_;
  mutable std::mutex mutex_;
  std::optional<HttpResponse> head_;
  std::string out_;
  size_t in_flight_ = 0;
  bool begun_ = false, complete_ = false, ended_ = false, gone_ = false, notified_ = false;
  std::optional<std::chrono::steady_clock::time_point> full_since_;
  std::function<void()> on_close_, on_drain_;
};

}  // namespace erne::server
