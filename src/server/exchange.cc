#include "server/exchange.h"

#include <utility>

#include "base/error.h"

namespace erne::server {

// One wake-up per batch: a burst of small writes costs one hop to the io thread.
void Exchange::wake(std::unique_lock<std::mutex>& lock) {
  const bool first = !std::exchange(notified_, true);
  lock.unlock();
  if (first) notify_();
}

void Exchange::note_full() {
  if (!is_full()) {
    full_since_.reset();
  } else if (!full_since_) {
    full_since_ = std::chrono::steady_clock::now();
  }
}

void Exchange::respond(HttpResponse response) {
  std::unique_lock lock(mutex_);
  ERNE_CHECK(!begun_, "a request is answered once");
  begun_ = complete_ = ended_ = true;
  head_ = std::move(response);
  wake(lock);
}

void Exchange::begin(HttpResponse head) {
  std::unique_lock lock(mutex_);
  ERNE_CHECK(!begun_, "a request is answered once");
  begun_ = true;
  head_ = std::move(head);
  wake(lock);
}

void Exchange::write(std::string bytes) {
  std::unique_lock lock(mutex_);
  ERNE_CHECK(begun_ && !complete_, "write() comes after begin()");
  if (gone_ || ended_) return;
  if (out_.empty()) {
    out_ = std::move(bytes);
  } else {
    out_ += bytes;
  }
  note_full();
  wake(lock);
}

void Exchange::end() {
  std::unique_lock lock(mutex_);
  ended_ = true;
  wake(lock);
}

bool Exchange::full() const {
  const std::lock_guard lock(mutex_);
  return !gone_ && is_full();
}

void Exchange::on_close(std::function<void()> callback) {
  std::unique_lock lock(mutex_);
  if (gone_ && !ended_) {
    lock.unlock();
    callback();
    return;
  }
  on_close_ = std::move(callback);
}

void Exchange::on_drain(std::function<void()> callback) {
  const std::lock_guard lock(mutex_);
  on_drain_ = std::move(callback);
}

Exchange::Batch Exchange::take() {
  const std::lock_guard lock(mutex_);
  notified_ = false;
  Batch batch;
  batch.head = std::exchange(head_, std::nullopt);
  batch.complete = complete_;
  batch.bytes = std::exchange(out_, {});
  batch.ended = ended_;
  in_flight_ = batch.bytes.size();
  return batch;
}

bool Exchange::has_output() const {
  const std::lock_guard lock(mutex_);
  return head_ || !out_.empty() || ended_;
}

void Exchange::written() {
  std::unique_lock lock(mutex_);
  const bool was_full = full_since_.has_value();
  in_flight_ = 0;
  note_full();
  const auto drained = was_full && !full_since_ ? on_drain_ : nullptr;
  lock.unlock();
  if (drained) drained();
}

void Exchange::client_gone() {
  std::unique_lock lock(mutex_);
  if (std::exchange(gone_, true)) return;
  out_.clear();
  const auto callback = ended_ ? nullptr : std::exchange(on_close_, nullptr);
  on_drain_ = nullptr;
  lock.unlock();
  if (callback) callback();
}

std::chrono::steady_clock::duration Exchange::full_for() const {
  const std::lock_guard lock(mutex_);
  return full_since_ ? std::chrono::steady_clock::now() - *full_since_
                     : std::chrono::steady_clock::duration::zero();
}

}  // namespace erne::server
