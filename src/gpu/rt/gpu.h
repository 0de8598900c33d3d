// All that a kernel may use of a GPU: one set of names over CUDA and the emulation of the tests
// (gpu/emulated). Kernels include this file and no other of a vendor, use no inline assembly
// and assume no warp of 32: lanes are counted with GPU_WARP, and every lane of a warp takes part in
// a warp_… call.
//
// Number types and their conversions are those of tensor/dtype.h, so a rounding on the device is
// the CPU's bit for bit.
#pragma once

#include <cstdint>

#include "tensor/dtype.h"

#if defined(ERNE_GPU_EMULATED)
#include "gpu/emulated/gpu_emulated.h"
#elif defined(__HIP__)
#include "gpu/rt/gpu_hip.h"
#else
#include "gpu/rt/gpu_cuda.h"
#endif

namespace erne::gpu {

/// 16 bytes: what one lane loads at once.
struct alignas(16) Raw16 {
  uint32_t word[4];
};

/// Of global memory that nobody writes while the kernel runs.
GPU_DEVICE Raw16 load16(const void* address) {
#if defined(__CUDA_ARCH__)  // an address out of a table is known to be global only so
  const uint4 words = __ldg(static_cast<const uint4*>(address));
  return {{words.x, words.y, words.z, words.w}};
#else
  return *static_cast<const Raw16*>(address);
#endif
}

GPU_DEVICE int warp_index() { return thread_index() / GPU_WARP; }
GPU_DEVICE int lane_index() { return thread_index() % GPU_WARP; }

#if !defined(ERNE_GPU_EMULATED)  // which has the same sums with one exchange each
/// Butterfly sum: the same bits in every lane.
GPU_DEVICE float warp_sum(float value) {
#pragma unroll
  for (int mask = GPU_WARP / 2; mask > 0; mask /= 2) value += warp_xor(value, mask);
  return value;
}
template <typename T>
GPU_DEVICE T warp_max(T value) {
#pragma unroll
  for (int mask = GPU_WARP / 2; mask > 0; mask /= 2) {
    const T other = warp_xor(value, mask);
    value = other > value ? other : value;
  }
  return value;
}
#endif

/// Sum over a block of kThreads threads, the same bits in every thread; `scratch` is shared memory
/// of kThreads / GPU_WARP floats that nobody else uses until the next block_sync() but one.
template <int kThreads>
GPU_DEVICE float block_sum(float value, float* scratch) {
  value = warp_sum(value);
  if (lane_index() == 0) scratch[warp_index()] = value;
  block_sync();
  float sum = 0;
#pragma unroll
  for (int w = 0; w < kThreads / GPU_WARP; ++w) sum += scratch[w];
  return sum;
}

GPU_DEVICE float load_number(const float* x) { return *x; }
GPU_DEVICE float load_number(const bf16* x) { return to_f32(*x); }
GPU_DEVICE void store_number(float* x, float value) { *x = value; }
GPU_DEVICE void store_number(bf16* x, float value) { *x = to_bf16(value); }

}  // namespace erne::gpu
