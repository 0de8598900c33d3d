// Cosines and sines by position, computed once with libm (at most 1 ulp off at any angle;
// text.md 3.4) and kept: a decode step asks for the same few positions in every layer, a prefill
// for the same hundreds.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_pool.h"

namespace erne::cpu {

class RopeTable {
 public:
  /// Makes cos() and sin() valid for all `positions` and the inverse frequencies inv_freq[half].
  /// Another inv_freq than last time empties the table.
  void prepare(const float* inv_freq, int64_t half, std::span<const int32_t> positions,
               ThreadPool& pool);

  /// [half] values of one prepared position.
  const float* cos(int32_t position) const { return row(position); }
  const float* sin(int32_t position) const { return row(position) + half_; }

 private:
  static constexpr int32_t kPagePositions = 64;

  const float* row(int32_t position) const {
    return pages_[static_cast<size_t>(position / kPagePositions)].data() +
           position % kPagePositions * 2 * half_;
  }
  void fill_page(size_t page);

  std::vector<float> inv_freq_;
  int64_t half_ = 0;
  std::vector<std::vector<float>> pages_;
  std::vector<size_t> missing_;
};

}  // namespace erne::cpu
