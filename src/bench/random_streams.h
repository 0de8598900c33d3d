// The two Mersenne Twister streams of the reference benchmark, bit for bit, so that `--seed 1`
// gives the very lengths, shuffles and arrival times behind the published tables (docs: spec
// bench.md 1.4).
//
// Matsumoto and Nishimura, "Mersenne Twister", 1998; the two initialisers are those of mt19937ar.c.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <utility>
#include <vector>

namespace erne::bench {

/// numpy's legacy global generator: lengths, id offsets, arrival times.
class NumpyRandom {
 public:
  explicit NumpyRandom(uint32_t seed) : engine_(seed) {}

  /// Uniform in [low, high); masked rejection on 32-bit words, no draw when only one value is
  /// possible. Throws Error{kInvalidArgument} unless low < high and high - low <= 2^32.
  int64_t randint(int64_t low, int64_t high);
  /// Uniform in [0, 1) with 53 random bits from two words.
  double uniform();
  /// Exponentially distributed with mean `scale`.
  double exponential(double scale);

 private:
  uint32_t word() { return static_cast<uint32_t>(engine_()); }

  std::mt19937 engine_;
};

/// Python's `random`: shuffles.
class PythonRandom {
 public:
  explicit PythonRandom(uint32_t seed);

  /// Uniform in [0, bound); bound in [1, 2^32).
  uint32_t below(uint32_t bound);

  template <typename T>
  void shuffle(std::vector<T>& items) {
    for (size_t i = items.size(); i > 1; --i) {
      std::swap(items[i - 1], items[below(static_cast<uint32_t>(i))]);
    }
  }

 private:
  std::mt19937 engine_;
};

/// `count` lengths drawn from [max(floor(full * ratio), 1), full]. full >= 1, ratio in [0, 1].
std::vector<int> random_lengths(NumpyRandom& random, int full, double ratio, int count);

}  // namespace erne::bench
