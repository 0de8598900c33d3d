// Who is live and how long the queue is: the one piece of scheduling state that submit() needs on
// foreign threads.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_set>

namespace erne {

class Ledger {
 public:
  Ledger(std::optional<int> max_requests, std::optional<int64_t> max_tokens)
      : max_requests_(max_requests), max_tokens_(max_tokens) {}

  /// Enters a request as queued, prompt_tokens counted once for each of its choices. Throws
  /// Error{kConflict} if the id is live, Error{kUnavailable} if the queue is full.
  void enter(const std::string& id, int64_t prompt_tokens);
  /// It left the queue: it runs, or it ended there.
  void dequeue(int64_t prompt_tokens);
  /// Its id is free again.
  void leave(const std::string& id);
  int queued() const;
  int64_t queued_tokens() const;

 private:
  const std::optional<int> max_requests_;
  const std::optional<int64_t> max_tokens_;
  mutable std::mutex mutex_;
  std::unordered_set<std::string> ids_;
  int queued_ = 0;
  int64_t queued_tokens_ = 0;
};

}  // namespace erne
