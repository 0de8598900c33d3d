// gpu.h for the tests: kernels as plain C++ on the CPU. A block's threads are fibers that yield at
// block_sync() and in every warp_… call; a missing barrier, a barrier that not all threads reach
// and an address outside an allocation end the test. Work waits in its stream until the host
// synchronises, so a host that reads too early or reuses a buffer too soon gets wrong values here
// too.
#pragma once

#include <cmath>
#include <cstring>
#include <functional>
#include <utility>

#include "gpu/rt/runtime.h"

#define GPU_KERNEL static void
#define GPU_DEVICE inline
#define GPU_SHARED static
#ifndef GPU_WARP
#define GPU_WARP 32
#endif

namespace erne::gpu {

struct Grid {
  int64_t x = 1, y = 1, z = 1;
};

namespace emulated {

/// The order in which the threads of a block, and the blocks, take their turns: a correct kernel
/// gives the same bits in each.
enum class Schedule { kForward, kBackward, kShuffled };
void set_schedule(Schedule schedule);
/// What the host asked for.
struct Counts {
  int64_t launches = 0;
  int64_t allocations = 0;  ///< of the device's and of page-locked memory
  int64_t waits = 0;        ///< synchronisations that had to wait for work
};
/// Since the last call.
Counts take_counts();
/// Whether the host may touch device memory outside the runtime's calls: false, but in a debugger.
void set_host_access(bool allowed);

void enqueue(Stream stream, std::function<void()> work);
/// Runs body once for every thread of every block.
void run_grid(Grid grid, int threads, const std::function<void()>& body);

struct Place {
  int thread = 0;
  Grid block{0, 0, 0};
};
/// Of the thread that has its turn.
extern Place current;
void wait_for_block();
/// Gives this lane's 8 bytes to its warp and returns those of all lanes.
const uint64_t* exchange(uint64_t bits);

}  // namespace emulated

inline int thread_index() { return emulated::current.thread; }
inline int64_t block_x() { return emulated::current.block.x; }
inline int64_t block_y() { return emulated::current.block.y; }
inline int64_t block_z() { return emulated::current.block.z; }
inline void block_sync() { emulated::wait_for_block(); }

template <typename T>
T warp_xor(T value, int mask) {
  static_assert(sizeof(T) <= 8);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  const uint64_t* all = emulated::exchange(bits);
  std::memcpy(&value, &all[(thread_index() % GPU_WARP) ^ mask], sizeof value);
  return value;
}
/// As gpu.h's: lanes are added in halves, so every lane gets the butterfly's bits.
template <typename T, typename Fold>
T warp_fold(T value, Fold fold) {
  static_assert(sizeof(T) <= 8);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  const uint64_t* all = emulated::exchange(bits);
  T lanes[GPU_WARP];
  for (int i = 0; i < GPU_WARP; ++i) std::memcpy(&lanes[i], &all[i], sizeof value);
  for (int half = GPU_WARP / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lanes[i] = fold(lanes[i], lanes[i + half]);
  }
  return lanes[0];
}
inline float warp_sum(float value) {
  return warp_fold(value, [](float a, float b) { return a + b; });
}
template <typename T>
T warp_max(T value) {
  return warp_fold(value, [](T a, T b) { return b > a ? b : a; });
}

struct WarpRank {
  int below, total;
};
inline WarpRank warp_rank(bool flag) {
  const uint64_t* all = emulated::exchange(flag ? 1 : 0);
  WarpRank rank{0, 0};
  for (int lane = 0; lane < GPU_WARP; ++lane) {
    rank.total += static_cast<int>(all[lane]);
    if (lane < thread_index() % GPU_WARP) rank.below += static_cast<int>(all[lane]);
  }
  return rank;
}

inline void shared_add(uint64_t* sum, uint64_t value) { *sum += value; }

// Not fused: the promise of a kernel is a bound, not these bits, and a call of libm is slow.
inline float gpu_fma(float a, float b, float c) { return a * b + c; }
inline double gpu_fma(double a, double b, double c) { return std::fma(a, b, c); }
inline float gpu_exp(float x) { return std::exp(x); }
inline float gpu_sqrt(float x) { return std::sqrt(x); }
inline float gpu_rint(float x) { return std::nearbyint(x); }
inline double gpu_rint(double x) { return std::nearbyint(x); }

template <typename... Parameters, typename... Arguments>
void launch(Stream stream, void (*kernel)(Parameters...), Grid grid, int threads,
            const Arguments&... arguments) {
  emulated::enqueue(stream, [kernel, grid, threads, ... held = Parameters(arguments)] {
    emulated::run_grid(grid, threads, [&] { kernel(held...); });
  });
}

}  // namespace erne::gpu
