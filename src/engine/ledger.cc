#include "engine/ledger.h"

#include "base/error.h"

namespace erne {

void Ledger::enter(const std::string& id, int64_t prompt_tokens) {
  const std::lock_guard lock(mutex_);
  if (max_requests_ && queued_ >= *max_requests_) {
    fail(Code::kUnavailable,
         "the request queue is full: {} requests wait, the limit is {}; try again later", queued_,
         *max_requests_);
  }
  if (max_tokens_ && queued_ > 0 && queued_tokens_ + prompt_tokens > *max_tokens_) {
    fail(Code::kUnavailable,
         "the request queue is full: {} prompt tokens wait, this request has {}, the limit is {}; "
         "try again later",
         queued_tokens_, prompt_tokens, *max_tokens_);
  }
  if (!ids_.insert(id).second)
    fail(Code::kConflict, "request id \"{}\" is in use by a live request", id);
  ++queued_;
  queued_tokens_ += prompt_tokens;
}

void Ledger::dequeue(int64_t prompt_tokens) {
  const std::lock_guard lock(mutex_);
  --queued_;
  queued_tokens_ -= prompt_tokens;
}

void Ledger::leave(const std::string& id) {
  const std::lock_guard lock(mutex_);
  ids_.erase(id);
}

int Ledger::queued() const {
  const std::lock_guard lock(mutex_);
  return queued_;
}

int64_t Ledger::queued_tokens() const {
  const std::lock_guard lock(mutex_);
  return queued_tokens_;
}

}  // namespace erne
