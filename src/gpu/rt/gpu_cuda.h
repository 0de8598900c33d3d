// gpu.h for CUDA.
#pragma once

#include <cuda_runtime.h>

#include "gpu/rt/runtime.h"

#define GPU_KERNEL static __global__ void
#define GPU_DEVICE __device__ inline
#define GPU_SHARED __shared__
#define GPU_WARP 32

namespace erne::gpu {

GPU_DEVICE int thread_index() { return static_cast<int>(threadIdx.x); }
GPU_DEVICE int64_t block_x() { return blockIdx.x; }
GPU_DEVICE int64_t block_y() { return blockIdx.y; }
GPU_DEVICE int64_t block_z() { return blockIdx.z; }
/// All threads of the block meet; what they wrote is seen by all.
GPU_DEVICE void block_sync() { __syncthreads(); }

/// The value of lane lane_index() ^ mask.
template <typename T>
GPU_DEVICE T warp_xor(T value, int mask) {
  return __shfl_xor_sync(0xFFFFFFFFU, value, mask);
}
/// How many lanes below this one have the flag, and how many in all.
struct WarpRank {
  int below, total;
};
GPU_DEVICE WarpRank warp_rank(bool flag) {
  const unsigned flags = __ballot_sync(0xFFFFFFFFU, flag);
  const unsigned lower = (1U << (threadIdx.x % GPU_WARP)) - 1U;
  return {__popc(flags & lower), __popc(flags)};
}

/// Adds to a number in shared memory; integers, so the order of the threads does not show.
GPU_DEVICE void shared_add(uint64_t* sum, uint64_t value) {
  static_assert(sizeof(unsigned long long) == sizeof(uint64_t));
  atomicAdd(reinterpret_cast<unsigned long long*>(sum), value);
}

GPU_DEVICE float gpu_fma(float a, float b, float c) { return fmaf(a, b, c); }
GPU_DEVICE double gpu_fma(double a, double b, double c) { return fma(a, b, c); }
GPU_DEVICE float gpu_exp(float x) { return expf(x); }
GPU_DEVICE float gpu_sqrt(float x) { return sqrtf(x); }
GPU_DEVICE float gpu_rint(float x) { return rintf(x); }
GPU_DEVICE double gpu_rint(double x) { return rint(x); }

/// Blocks of a launch.
struct Grid {
  int64_t x = 1, y = 1, z = 1;
};

/// Runs the kernel behind what the stream already holds; throws Error for a launch that the driver
/// refuses.
template <typename... Parameters, typename... Arguments>
void launch(Stream stream, void (*kernel)(Parameters...), Grid grid, int threads,
            const Arguments&... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  const dim3 blocks(static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y),
                    static_cast<unsigned>(grid.z));
  kernel<<<blocks, static_cast<unsigned>(threads), 0, reinterpret_cast<cudaStream_t>(stream)>>>(
      Parameters(arguments)...);
  check_launch();
}

}  // namespace erne::gpu
