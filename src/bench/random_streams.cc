#include "bench/random_streams.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "base/error.h"

namespace erne::bench {
namespace {

constexpr size_t kStateWords = 624;

// init_by_array of mt19937ar.c for a key of one word, as a seed sequence: the standard makes the
// 624 generated words the engine's state as they are.
class ArraySeed {
 public:
  using result_type = uint32_t;

  explicit ArraySeed(uint32_t key) {
    state_[0] = 19650218;
    for (uint32_t i = 1; i < kStateWords; ++i) state_[i] = mix(i, 1812433253) + i;
    size_t i = 1;
    for (size_t k = 0; k < kStateWords; ++k) {
      state_[i] = (state_[i] ^ mix(i, 1664525)) + key;
      i = next(i);
    }
    for (size_t k = 1; k < kStateWords; ++k) {
      state_[i] = (state_[i] ^ mix(i, 1566083941)) - static_cast<uint32_t>(i);
      i = next(i);
    }
    state_[0] = 0x80000000;
  }

  template <typename Iterator>
  void generate(Iterator begin, Iterator end) const {
    size_t i = 0;
    for (; begin != end; ++begin) *begin = state_[i++ % kStateWords];
  }

 private:
  uint32_t mix(size_t i, uint32_t factor) const {
    return (state_[i - 1] ^ (state_[i - 1] >> 30)) * factor;
  }
  // Word 0 mirrors the last word whenever the walk wraps round.
  size_t next(size_t i) {
    if (i + 1 < kStateWords) return i + 1;
    state_[0] = state_[kStateWords - 1];
    return 1;
  }

  std::array<uint32_t, kStateWords> state_{};
};

std::mt19937 engine_from_array(uint32_t key) {
  ArraySeed seed(key);
  return std::mt19937(seed);
}

}  // namespace

int64_t NumpyRandom::randint(int64_t low, int64_t high) {
  if (low >= high || high - low > (int64_t{1} << 32)) {
    fail(Code::kInvalidArgument, "randint needs low < high and at most 2^32 values, got [{}, {})",
         low, high);
  }
  const auto range = static_cast<uint32_t>(high - 1 - low);
  if (range == 0) return low;
  const uint32_t mask = std::numeric_limits<uint32_t>::max() >> std::countl_zero(range);
  uint32_t value = word() & mask;
  while (value > range) value = word() & mask;
  return low + value;
}

double NumpyRandom::uniform() {
  const uint32_t high = word() >> 5;
  const uint32_t low = word() >> 6;
  return (high * 67108864.0 + low) / 9007199254740992.0;
}

double NumpyRandom::exponential(double scale) { return -std::log(1.0 - uniform()) * scale; }

PythonRandom::PythonRandom(uint32_t seed) : engine_(engine_from_array(seed)) {}

uint32_t PythonRandom::below(uint32_t bound) {
  if (bound == 0) fail(Code::kInvalidArgument, "below needs a bound of at least 1, got 0");
  const int shift = std::countl_zero(bound);
  auto draw = [&] { return static_cast<uint32_t>(engine_()) >> shift; };
  uint32_t value = draw();
  while (value >= bound) value = draw();
  return value;
}

std::vector<int> random_lengths(NumpyRandom& random, int full, double ratio, int count) {
  if (full < 1) fail(Code::kInvalidArgument, "a random length must be at least 1, got {}", full);
  if (!(ratio >= 0 && ratio <= 1))
    fail(Code::kInvalidArgument, "range ratio must be in [0, 1], got {}", ratio);
  const auto least = std::max(static_cast<int64_t>(std::floor(full * ratio)), int64_t{1});
  std::vector<int> lengths(static_cast<size_t>(std::max(count, 0)));
  for (int& length : lengths) length = static_cast<int>(random.randint(least, int64_t{full} + 1));
  return lengths;
}

}  // namespace erne::bench
