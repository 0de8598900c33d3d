// Time as a value that tests can move: the scheduler and the server never read the system clock
// themselves.
#pragma once

#include <chrono>

namespace erne {

/// Monotonic seconds. Implementations are thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  /// Seconds since an arbitrary start; never goes back.
  virtual double now_s() const = 0;
};

class SystemClock final : public Clock {
 public:
  double now_s() const override {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }
};

/// For tests: stands still until advanced. Not thread-safe.
class ManualClock final : public Clock {
 public:
  double now_s() const override { return now_s_; }
  void advance(double seconds) { now_s_ += seconds; }

 private:
  double now_s_ = 0;
};

}  // namespace erne
