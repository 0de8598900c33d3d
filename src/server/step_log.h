// The engine's work as log lines (spec serving.md 13): made from snapshots of its counters, so the
// engine itself never waits for a log.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace erne::server {

class StepLog {
 public:
  /// A decode line each time at least `decode_interval` steps were made since; 0: no lines at all.
  StepLog(const EngineStats& start, uint64_t decode_interval)
      : interval_(decode_interval), last_(start), last_decode_(start) {}

  /// The lines due now. To be called a few times a second: a prefill line holds what was computed
  /// and what the cache spared since the call before, and a decode line may come some steps late.
  std::vector<std::string> lines(const EngineStats& now);

 private:
  const uint64_t interval_;
  EngineStats last_;         ///< of the call before
  EngineStats last_decode_;  ///< of the last decode line that was due
};

}  // namespace erne::server
