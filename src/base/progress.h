// A progress bar on stderr for anything that takes over two seconds. Silent when stderr is not a
// terminal, except for one line at the start and one at the end.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace erne {

enum class ProgressUnit { kItems, kBytes };

/// Thread-safe. The bar appears only once the work has lasted a second, and is redrawn at most ten
/// times a second.
class Progress {
 public:
  /// total 0: unknown, draws a count. `label` is what a user reads: "loading weights".
  Progress(std::string label, uint64_t total, ProgressUnit unit = ProgressUnit::kItems,
           bool enabled = true);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  /// Ends the line.
  ~Progress();
  void add(uint64_t amount);
  void set(uint64_t done);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// "1.5 GiB", "300 MiB", "12 B".
std::string human_bytes(uint64_t bytes);

}  // namespace erne
