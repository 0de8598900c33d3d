// One blob over one connection: attempts, continuation, and the proof that what arrived is what was
// listed.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "hub/http.h"
#include "hub/listing.h"
#include "hub/repo_cache.h"
#include "hub/settings.h"

namespace erne {

/// A pause between attempts, doubled each time, not shorter than what the server asks for; ends
/// early when stopped.
class Backoff {
 public:
  Backoff(const HubSettings& settings, const std::atomic<bool>* stop)
      : settings_(settings), stop_(stop) {}
  /// True if another attempt may follow (then it has waited).
  bool next(const HttpAnswer& answer);
  /// New bytes came: the next failure is the first again.
  void reset() { failures_ = 0; }

 private:
  const HubSettings& settings_;
  const std::atomic<bool>* stop_;
  int failures_ = 0;
};

/// Fetches `url` until `file.size` bytes with `file.digest` lie in cache.blob(file.digest). An
/// .incomplete file from an earlier attempt is continued. `arrived` is told of each change in the
/// number of bytes at hand (it may be negative). Throws Error{kIo}, Error{kCorrupt}; `explain`
/// turns a lasting refusal (401, 403, 404) into the error to throw.
struct Transfer {
  const HubSettings& settings;
  const RepoCache& cache;
  const std::atomic<bool>* stop;
  std::function<void(int64_t)> arrived;
  std::function<void(const HttpAnswer&)> explain;

  void fetch(HttpClient& http, const std::string& url, const RepoFile& file) const;
};

}  // namespace erne
