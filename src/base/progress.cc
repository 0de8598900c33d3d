#include "base/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <mutex>

namespace erne {

using Clock = std::chrono::steady_clock;

struct Progress::State {
  std::string label;
  uint64_t total = 0;
  ProgressUnit unit = ProgressUnit::kItems;
  bool enabled = true;
  bool terminal = false;
  bool drawn = false;
  uint64_t done = 0;
  Clock::time_point start = Clock::now();
  Clock::time_point last_draw{};
  std::mutex mutex;

  double elapsed_s() const { return std::chrono::duration<double>(Clock::now() - start).count(); }

  std::string amount(uint64_t value) const {
    return unit == ProgressUnit::kBytes ? human_bytes(value) : fmt::format("{}", value);
  }

  void draw() {
    const double seconds = elapsed_s();
    const auto rate =
        static_cast<uint64_t>(seconds > 0 ? static_cast<double>(done) / seconds : 0.0);
    std::string line;
    if (total > 0) {
      constexpr uint64_t kWidth = 28;
      const uint64_t filled = done >= total ? kWidth : done * kWidth / total;
      line =
          fmt::format("{} [{}{}] {:3}% {}/{} {}/s", label, std::string(filled, '#'),
                      std::string(kWidth - filled, '.'), done >= total ? 100 : done * 100 / total,
                      amount(done), amount(total), amount(rate));
    } else {
      line = fmt::format("{} {} {}/s", label, amount(done), amount(rate));
    }
    std::fprintf(stderr, "\r\033[K%s", line.c_str());
    std::fflush(stderr);
    drawn = true;
  }

  void update(uint64_t value) {
    const std::lock_guard lock(mutex);
    done = value;
    if (!enabled || !terminal) return;
    const Clock::time_point now = Clock::now();
    if (now - start < std::chrono::seconds(1) || now - last_draw < std::chrono::milliseconds(100))
      return;
    last_draw = now;
    draw();
  }
};

Progress::Progress(std::string label, uint64_t total, ProgressUnit unit, bool enabled)
    : state_(std::make_unique<State>()) {
  state_->label = std::move(label);
  state_->total = total;
  state_->unit = unit;
  state_->enabled = enabled;
  state_->terminal = ::isatty(STDERR_FILENO) == 1;
}

Progress::~Progress() {
  if (!state_->enabled) return;
  if (state_->drawn) {
    state_->draw();
    std::fputc('\n', stderr);
  } else if (!state_->terminal && state_->elapsed_s() > 2) {
    std::fprintf(stderr, "%s: %s in %.1f s\n", state_->label.c_str(),
                 state_->amount(state_->done).c_str(), state_->elapsed_s());
  }
}

void Progress::add(uint64_t amount) {
  uint64_t value = 0;
  {
    const std::lock_guard lock(state_->mutex);
    value = state_->done += amount;
  }
  state_->update(value);
}

void Progress::set(uint64_t done) { state_->update(done); }

std::string human_bytes(uint64_t bytes) {
  constexpr std::array<const char*, 5> kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  for (; value >= 1024 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

}  // namespace erne
