#include "engine/block_pool.h"

#include "base/error.h"

namespace erne {

BlockPool::BlockPool(int32_t num_blocks) {
  ERNE_CHECK(num_blocks >= 0, "{} blocks", num_blocks);
  taken_.resize(static_cast<size_t>(num_blocks));
  free_.reserve(static_cast<size_t>(num_blocks));
  for (int32_t block = num_blocks - 1; block >= 0; --block) free_.push_back(block);
}

int32_t BlockPool::take() {
  ERNE_CHECK(!free_.empty(), "the pool of {} blocks is empty", num_blocks());
  const int32_t block = free_.back();
  free_.pop_back();
  taken_[static_cast<size_t>(block)] = 1;
  return block;
}

void BlockPool::give_back(int32_t block) {
  ERNE_CHECK(block >= 0 && block < num_blocks() && taken_[static_cast<size_t>(block)] != 0,
             "block {} of {} is not taken", block, num_blocks());
  taken_[static_cast<size_t>(block)] = 0;
  free_.push_back(block);
}

}  // namespace erne
