// Cuts a ragged batch's attention into tiles (rows of one sequence and kv head) and gives them to
// threads as they become free; where a few long sequences leave threads idle, tiles are cut along
// their KV chunks too. The chunks of a row are merged in the same order either way, so the cut
// never shows in the result.
#pragma once

#include <vector>

#include "base/thread_pool.h"
#include "cpu/kernels.h"
#include "device/device.h"
#include "tensor/buffer.h"

namespace erne::cpu {

class AttentionPlan {
 public:
  /// out: [T, N D] like qkv.
  void run(const AttentionTask& task, const Batch& batch, const Kernels& kernels, ThreadPool& pool,
           void* out);

 private:
  /// Rows of one sequence and kv head that one thread computes together.
  struct Item {
    AttentionTile tile;
    int64_t chunks;         ///< that its last row reaches
    int64_t first_partial;  ///< place of its first chunk in the split run
  };

  void cut(const AttentionTask& task, const Batch& batch);
  void run_whole(const AttentionTask& task, const Kernels& kernels, ThreadPool& pool, void* out);
  void run_split(const AttentionTask& task, const Kernels& kernels, ThreadPool& pool, void* out);

  int32_t tile_rows_ = 0;  ///< most rows of an item
  std::vector<Item> items_;
  std::vector<int32_t> item_of_partial_;
  Buffer partials_;
};

}  // namespace erne::cpu
