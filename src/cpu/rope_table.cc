#include "cpu/rope_table.h"

#include <algorithm>
#include <cmath>

namespace erne::cpu {

void RopeTable::fill_page(size_t page) {
  std::vector<float> values(static_cast<size_t>(kPagePositions * 2 * half_));
  for (int64_t i = 0; i < kPagePositions; ++i) {
    const auto position = static_cast<float>(static_cast<int64_t>(page) * kPagePositions + i);
    float* cosines = values.data() + i * 2 * half_;
    for (int64_t j = 0; j < half_; ++j) {
      const float angle = position * inv_freq_[static_cast<size_t>(j)];
      cosines[j] = std::cos(angle);
      cosines[half_ + j] = std::sin(angle);
    }
  }
  pages_[page] = std::move(values);
}

void RopeTable::prepare(const float* inv_freq, int64_t half, std::span<const int32_t> positions,
                        ThreadPool& pool) {
  if (half != half_ || !std::equal(inv_freq_.begin(), inv_freq_.end(), inv_freq)) {
    inv_freq_.assign(inv_freq, inv_freq + half);
    half_ = half;
    pages_.clear();
  }
  missing_.clear();
  for (const int32_t position : positions) {
    const auto page = static_cast<size_t>(position / kPagePositions);
    if (page >= pages_.size()) pages_.resize(page + 1);
    if (pages_[page].empty() && (missing_.empty() || missing_.back() != page))
      missing_.push_back(page);
  }
  if (missing_.empty()) return;
  std::sort(missing_.begin(), missing_.end());
  missing_.erase(std::unique(missing_.begin(), missing_.end()), missing_.end());
  pool.parallel_for(static_cast<int64_t>(missing_.size()), 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) fill_page(missing_[static_cast<size_t>(i)]);
  });
}

}  // namespace erne::cpu
