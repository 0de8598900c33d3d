#include "server/service.h"

#include <algorithm>
#include <vector>

namespace erne::server {

double unix_time_s() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

void Service::attach(Backend& b) {
  const Tokenizer& tokenizer = b.tokenizer();
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    longest_token_bytes = std::max(longest_token_bytes, tokenizer.token_bytes(id).size());
  }
  backend.store(&b);
  phase.store(Phase::kReady);
}

bool LiveRequests::add(const std::string& rid, std::function<void()> cancel) {
  const std::lock_guard lock(mutex_);
  return live_.emplace(rid, std::move(cancel)).second;
}

void LiveRequests::remove(const std::string& rid) {
  const std::lock_guard lock(mutex_);
  live_.erase(rid);
}

void LiveRequests::cancel(std::string_view prefix) {
  std::vector<std::function<void()>> callbacks;
  {
    const std::lock_guard lock(mutex_);
    for (auto it = live_.lower_bound(prefix); it != live_.end() && it->first.starts_with(prefix);
         ++it) {
      callbacks.push_back(it->second);
    }
  }
  for (const auto& callback : callbacks) callback();
}

size_t LiveRequests::size() const {
  const std::lock_guard lock(mutex_);
  return live_.size();
}

}  // namespace erne::server
