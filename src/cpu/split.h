// How the threads of a pool share the panels of linears: every memory node has its own, which its
// threads pack and read.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "cpu/linear_kernel.h"
#include "cpu/workspace.h"

namespace erne::cpu {

/// The units that one thread packs and, in products, reads: those of its memory node are
/// [begin, end), the same for every weight with so many units, and inside the node it is thread
/// `index` of `count`.
struct UnitShare {
  int64_t begin, end;
  int index, count;
};
UnitShare unit_share(const ThreadPool& pool, int64_t units, int thread);

/// Calls body(begin, end) on every thread with its own units: who writes them first decides in
/// which node's memory they lie.
template <typename Body>
void each_own_unit(ThreadPool& pool, int64_t units, Body&& body) {
  pool.each_thread([&](int thread) {
    const UnitShare own = unit_share(pool, units, thread);
    const int64_t width = own.end - own.begin;
    body(own.begin + width * own.index / own.count,
         own.begin + width * (own.index + 1) / own.count);
  });
}

/// Runs the task, which has `units` units, on all threads.
void run_linear(const LinearKernel& kernel, const LinearTask& task, int64_t units, ThreadPool& pool,
                Workspace& workspace);

/// The panels of the experts of a step: every panel of an expert costs about its rows, and at least
/// its bytes; the threads of a node get equal shares of the total of its own panels.
class ExpertShares {
 public:
  /// expert_start: [E + 1] as in Routing. Every expert has `units` units.
  void plan(std::span<const int32_t> expert_start, int64_t units);

  /// Calls body(expert, first, last) for the units of every expert that `thread` computes.
  template <typename Body>
  void each(const ThreadPool& pool, int thread, Body&& body) const {
    const UnitShare own = unit_share(pool, units_, thread);
    const int64_t width = own.end - own.begin;
    const int64_t begin = cost_.back() * width * own.index / own.count;
    const int64_t end = cost_.back() * width * (own.index + 1) / own.count;
    for (size_t e = 0; e + 1 < cost_.size(); ++e) {
      const int64_t cost = cost_[e + 1] - cost_[e];
      const int64_t start = cost_[e] * width;
      if (cost == 0 || start + cost * width <= begin || start >= end) continue;
      // A unit belongs to the range in which it starts.
      const auto unit_from = [&](int64_t at) {
        return at <= start ? 0 : std::min((at - start + cost - 1) / cost, width);
      };
      body(e, own.begin + unit_from(begin), own.begin + unit_from(end));
    }
  }

 private:
  int64_t units_ = 0;
  std::vector<int64_t> cost_;  // [E + 1] of one panel of each expert, added up
};

}  // namespace erne::cpu
