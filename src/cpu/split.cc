#include "cpu/split.h"

namespace erne::cpu {

UnitShare unit_share(const ThreadPool& pool, int64_t units, int thread) {
  const Team team = pool.team_of(thread);
  const int64_t threads = pool.num_threads();
  return {units * team.first / threads, units * (team.first + team.count) / threads,
          thread - team.first, team.count};
}

void run_linear(const LinearKernel& kernel, const LinearTask& task, int64_t units, ThreadPool& pool,
                Workspace& workspace) {
  const int64_t max_rows = kernel.block_rows(task.k);
  const int64_t blocks = (task.m + max_rows - 1) / max_rows;
  const int64_t y_row_bytes = task.y_stride * (task.y_bf16 ? 2 : 4);
  const int64_t x_row_bytes = task.x_stride * (task.x_bf16 ? 2 : 4);
  // Every node takes its own panels for all rows. Inside it row blocks are outermost: a thread
  // packs the rows of its block once and runs them through many panels.
  pool.each_thread([&](int thread) {
    const UnitShare own = unit_share(pool, units, thread);
    const int64_t width = own.end - own.begin;
    int64_t begin = blocks * width * own.index / own.count;
    const int64_t end = blocks * width * (own.index + 1) / own.count;
    while (begin < end) {
      const int64_t block = begin / width;
      const int64_t stop = std::min(end, (block + 1) * width);
      const int64_t first_row = block * task.m / blocks;
      LinearTask part = task;
      part.m = (block + 1) * task.m / blocks - first_row;
      part.x = static_cast<const uint8_t*>(task.x) + first_row * x_row_bytes;
      part.y = static_cast<uint8_t*>(task.y) + first_row * y_row_bytes;
      const int64_t first = own.begin - block * width;
      kernel.run(part, first + begin, first + stop, workspace.of(thread));
      begin = stop;
    }
  });
}

void ExpertShares::plan(std::span<const int32_t> expert_start, int64_t units) {
  constexpr int64_t kMinRows = 8;
  units_ = units;
  cost_.assign(expert_start.size(), 0);
  for (size_t e = 0; e + 1 < expert_start.size(); ++e) {
    const int64_t rows = expert_start[e + 1] - expert_start[e];
    cost_[e + 1] = cost_[e] + (rows > 0 ? std::max(rows, kMinRows) : 0);
  }
}

}  // namespace erne::cpu
