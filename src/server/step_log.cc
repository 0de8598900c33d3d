#include "server/step_log.h"

#include <fmt/format.h>

namespace erne::server {

std::vector<std::string> StepLog::lines(const EngineStats& now) {
  std::vector<std::string> out;
  if (interval_ == 0) return out;
  const uint64_t computed = now.prefill_tokens_total - last_.prefill_tokens_total;
  const uint64_t cached = now.prefill_cached_tokens_total - last_.prefill_cached_tokens_total;
  last_ = now;
  if (computed > 0 || cached > 0) {
    out.push_back(fmt::format("prefill: {} new tokens, {} cached tokens, {} running, {} queued",
                              computed, cached, now.running, now.queued));
  }
  if (now.steps_total - last_decode_.steps_total < interval_) return out;
  const bool decoded = now.generation_tokens_total > last_decode_.generation_tokens_total;
  last_decode_ = now;
  if (!decoded) return out;
  const auto used = static_cast<double>(now.used_tokens);
  const double share = now.pool_tokens > 0 ? used / static_cast<double>(now.pool_tokens) : 0;
  out.push_back(fmt::format(
      "decode: {} running, {} KV tokens ({:.1f} % of the pool), {:.1f} tokens/s, {} queued",
      now.running, now.used_tokens, 100 * share, now.gen_throughput, now.queued));
  return out;
}

}  // namespace erne::server
