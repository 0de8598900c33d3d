#include "cpu/attention.h"

#include <algorithm>
#include <atomic>

namespace erne::cpu {
namespace {

constexpr int32_t kMostBlocks = 4;  ///< of attention_rows in a tile
constexpr int kItemsPerThread = 16;

/// Bytes of one AttentionPartial of `rows` rows.
size_t partial_bytes(int32_t rows, int64_t v_width) {
  return (static_cast<size_t>(rows) * static_cast<size_t>(v_width + 2) * sizeof(float) + 63) &
         ~size_t{63};
}

AttentionPartial partial_at(void* memory, int32_t rows, int64_t v_width) {
  auto* out = static_cast<float*>(memory);
  return {out, out + rows * v_width, out + rows * (v_width + 1)};
}

AttendFn attend_of(const AttentionTask& task, const Kernels& kernels) {
  if (task.kv.type == KvType::kI8) return kernels.attend_int8;
  if (task.bf16) return kernels.attend_bf16;
  return task.kv.type == KvType::kF32 ? kernels.attend_f32 : kernels.attend_mixed;
}

void finish_tile(const AttentionTask& task, const AttentionTile& tile, const Kernels& kernels,
                 AttentionPartial part, void* out) {
  const int64_t group = task.num_heads / task.kv_heads;
  const int64_t element = task.bf16 ? 2 : 4;
  for (int32_t r = 0; r < tile.rows; ++r) {
    const int64_t token = tile.first_token + (tile.row + r) / group;
    const int64_t head = tile.kv_head * group + (tile.row + r) % group;
    void* y =
        static_cast<uint8_t*>(out) + (token * task.num_heads + head) * task.kv.head_dim * element;
    kernels.finish_row(part.out + r * task.kv.v_width, part.sum[r], task.kv.head_dim, y, task.bf16);
  }
}

}  // namespace

void AttentionPlan::cut(const AttentionTask& task, const Batch& batch) {
  const int64_t group = task.num_heads / task.kv_heads;
  items_.clear();
  int64_t partials = 0;
  for (int64_t s = 0; s < batch.num_sequences(); ++s) {
    const auto i = static_cast<size_t>(s);
    const int64_t first = batch.query_start[i];
    const int64_t count = batch.query_start[i + 1] - first;
    const int64_t position = batch.context_len[i] - count;
    const int32_t* blocks = batch.block_table.data() + s * batch.max_blocks;
    for (int32_t h = 0; h < task.kv_heads; ++h) {
      for (int64_t row = 0; row < count * group; row += tile_rows_) {
        const auto rows = static_cast<int32_t>(std::min<int64_t>(tile_rows_, count * group - row));
        const int64_t last_position = position + (row + rows - 1) / group;
        const int64_t chunks = last_position / kKvChunk + 1;
        items_.push_back({{blocks, first, position, row, rows, h}, chunks, partials});
        partials += chunks;
      }
    }
  }
}

void AttentionPlan::run_whole(const AttentionTask& task, const Kernels& kernels, ThreadPool& pool,
                              void* out) {
  const int64_t v_width = task.kv.v_width;
  const size_t state = partial_bytes(tile_rows_, v_width);
  const size_t scratch = kernels.attention_scratch_bytes(v_width);
  const size_t per_thread = (2 * state + scratch + 63) & ~size_t{63};
  const auto threads = static_cast<size_t>(pool.num_threads());
  if (partials_.size() < per_thread * threads) partials_ = Buffer::host(per_thread * threads);
  const AttendFn attend = attend_of(task, kernels);
  std::atomic<int64_t> next{static_cast<int64_t>(items_.size())};
  pool.parallel_for(pool.num_threads(), 1, [&](int64_t, int64_t, int thread) {
    auto* memory = partials_.as<uint8_t>() + static_cast<size_t>(thread) * per_thread;
    const AttentionPartial sum = partial_at(memory, tile_rows_, v_width);
    const AttentionPartial part = partial_at(memory + state, tile_rows_, v_width);
    const Scratch space{memory + 2 * state, scratch};
    // From the end: late tiles see the most positions, so the short ones fill the gaps.
    for (int64_t i = --next; i >= 0; i = --next) {
      const Item& item = items_[static_cast<size_t>(i)];
      attend(task, item.tile, 0, sum, space);
      for (int64_t c = 1; c < item.chunks; ++c) {
        attend(task, item.tile, c, part, space);
        kernels.merge(sum, part, item.tile.rows, v_width);
      }
      finish_tile(task, item.tile, kernels, sum, out);
    }
  });
}

void AttentionPlan::run_split(const AttentionTask& task, const Kernels& kernels, ThreadPool& pool,
                              void* out) {
  const int64_t v_width = task.kv.v_width;
  const size_t state = partial_bytes(tile_rows_, v_width);
  const size_t scratch = (kernels.attention_scratch_bytes(v_width) + 63) & ~size_t{63};
  const auto threads = static_cast<size_t>(pool.num_threads());
  item_of_partial_.clear();
  for (size_t i = 0; i < items_.size(); ++i) {
    item_of_partial_.insert(item_of_partial_.end(), static_cast<size_t>(items_[i].chunks),
                            static_cast<int32_t>(i));
  }
  const size_t count = item_of_partial_.size();
  const size_t bytes = threads * scratch + count * state;
  if (partials_.size() < bytes) partials_ = Buffer::host(bytes + bytes / 2);
  const AttendFn attend = attend_of(task, kernels);
  uint8_t* states = partials_.as<uint8_t>() + threads * scratch;
  const auto state_at = [&](int64_t i) {
    return partial_at(states + static_cast<size_t>(i) * state, tile_rows_, v_width);
  };
  pool.parallel_for(static_cast<int64_t>(count), 1, [&](int64_t begin, int64_t end, int thread) {
    const Scratch space{partials_.as<uint8_t>() + static_cast<size_t>(thread) * scratch, scratch};
    for (int64_t i = begin; i < end; ++i) {
      const Item& item = items_[static_cast<size_t>(item_of_partial_[static_cast<size_t>(i)])];
      attend(task, item.tile, i - item.first_partial, state_at(i), space);
    }
  });
  for (const Item& item : items_) {
    const AttentionPartial sum = state_at(item.first_partial);
    for (int64_t c = 1; c < item.chunks; ++c)
      kernels.merge(sum, state_at(item.first_partial + c), item.tile.rows, v_width);
    finish_tile(task, item.tile, kernels, sum, out);
  }
}

void AttentionPlan::run(const AttentionTask& task, const Batch& batch, const Kernels& kernels,
                        ThreadPool& pool, void* out) {
  const int threads = pool.num_threads();
  // Tiles of several blocks of rows read keys and values more seldom, where there are tiles enough.
  for (int32_t blocks = kMostBlocks; blocks > 0; blocks /= 2) {
    tile_rows_ = blocks * kernels.attention_rows;
    cut(task, batch);
    if (items_.size() >= static_cast<size_t>(kItemsPerThread * threads)) break;
  }
  const bool few = items_.size() < static_cast<size_t>(4 * threads);
  const bool cuttable =
      std::any_of(items_.begin(), items_.end(), [](const Item& item) { return item.chunks > 1; });
  if (threads > 1 && few && cuttable) {
    run_split(task, kernels, pool, out);
  } else {
    run_whole(task, kernels, pool, out);
  }
}

}  // namespace erne::cpu
