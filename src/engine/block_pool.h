// Who owns which page of the KV cache: a free list over int32 block ids.
//
// Engine thread only. Low ids are handed out first and freed ones come back first, so memory that
// was never needed is never touched.
#pragma once

#include <cstdint>
#include <vector>

namespace erne {

class BlockPool {
 public:
  explicit BlockPool(int32_t num_blocks);

  int32_t num_blocks() const { return static_cast<int32_t>(taken_.size()); }
  int32_t num_free() const { return static_cast<int32_t>(free_.size()); }
  /// A free block; there must be one.
  int32_t take();
  /// `block` must be taken.
  void give_back(int32_t block);

 private:
  std::vector<int32_t> free_;
  std::vector<uint8_t> taken_;
};

}  // namespace erne
