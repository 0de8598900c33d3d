// gpu.h for HIP, as far as kernels need it: compiled by tools/check_hip.sh, linked by nothing yet.
#pragma once

#include <hip/hip_runtime.h>

#include "gpu/rt/runtime.h"

#define GPU_KERNEL static __global__ void
#define GPU_DEVICE __device__ inline
#define GPU_SHARED __shared__
#if defined(ERNE_HIP_WARP)
#define GPU_WARP ERNE_HIP_WARP
#else
#define GPU_WARP 64  // of gfx9; the host's pass cannot ask the device
#endif

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
  return __shfl_xor(value, mask, GPU_WARP);
}
/// How many lanes below this one have the flag, and how many in all.
struct WarpRank {
  int below, total;
};
GPU_DEVICE WarpRank warp_rank(bool flag) {
  const uint64_t flags = __ballot(flag);
  const uint64_t lower = (uint64_t{1} << (threadIdx.x % GPU_WARP)) - 1U;
  return {static_cast<int>(__popcll(flags & lower)), static_cast<int>(__popcll(flags))};
}

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
  kernel<<<blocks, static_cast<unsigned>(threads), 0, reinterpret_cast<hipStream_t>(stream)>>>(
      Parameters(arguments)...);
  check_launch();
}

}  // namespace erne::gpu
