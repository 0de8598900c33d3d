// runtime.h over the CUDA runtime, which is linked statically and finds the driver by itself.
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/progress.h"
#include "gpu/rt/card_index.h"
#include "gpu/rt/faults.h"
#include "gpu/rt/runtime.h"

namespace erne::gpu {
namespace {

std::string version_text(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

const char* text(cudaError_t status) { return cudaGetErrorString(status); }

// Errors of a device that ran into one stay; the process can do no more with it.
void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) device_failed(what, text(status));
}

cudaStream_t native(Stream stream) { return reinterpret_cast<cudaStream_t>(stream); }

// Why there is no device to count.
[[noreturn]] void explain(cudaError_t status) {
  int driver = 0;
  cudaDriverGetVersion(&driver);
  if (driver == 0) {
    fail(Code::kUnavailable,
         "--device cuda: there is no NVIDIA driver here (libcuda.so.1 was not found); install one, "
         "or use --device cpu");
  }
  if (status == cudaErrorInsufficientDriver) {
    fail(Code::kUnavailable,
         "--device cuda: the NVIDIA driver is too old: it knows CUDA up to {}, this program needs "
         "{}; update the driver, or use --device cpu",
         version_text(driver), version_text(CUDART_VERSION));
  }
  if (status == cudaErrorNoDevice) {
    fail(Code::kUnavailable,
         "--device cuda: the driver finds no device (is CUDA_VISIBLE_DEVICES empty?); use --device "
         "cpu");
  }
  fail(Code::kUnavailable, "--device cuda: the devices cannot be counted: {}", text(status));
}

}  // namespace

Card open_card(int index) {
  int count = 0;
  const cudaError_t counted = cudaGetDeviceCount(&count);
  if (counted != cudaSuccess || count == 0)
    explain(counted == cudaSuccess ? cudaErrorNoDevice : counted);
  check_index(index, count);
  cudaDeviceProp p{};
  check(cudaGetDeviceProperties(&p, index), "properties");
  if (p.major < 8) {
    fail(Code::kUnavailable,
         "--device cuda:{}: {} has compute capability {}.{}, the kernels need 8.0 or more", index,
         p.name, p.major, p.minor);
  }
  bind_card(index);
  int driver = 0;
  check(cudaDriverGetVersion(&driver), "driver version");
  return {"cuda", p.name,
          fmt::format("{} multiprocessors, sm_{}{}, driver for CUDA {}", p.multiProcessorCount,
                      p.major, p.minor, version_text(driver)),
          p.totalGlobalMem, p.multiProcessorCount};
}

void bind_card(int index) { check(cudaSetDevice(index), "cudaSetDevice"); }

void* allocate(size_t bytes) {
  void* data = nullptr;
  const cudaError_t status = cudaMalloc(&data, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // not a lasting error
    device_is_full(bytes, free_bytes());
  }
  check(status, "cudaMalloc");
  return data;
}

void release(void* data) { cudaFree(data); }

void* allocate_pinned(size_t bytes) {
  void* data = nullptr;
  const cudaError_t status = cudaMallocHost(&data, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    fail(Code::kOutOfMemory, "cannot lock {} of host memory for copies to the GPU",
         human_bytes(bytes));
  }
  check(status, "cudaMallocHost");
  return data;
}

void release_pinned(void* data) { cudaFreeHost(data); }

uint64_t free_bytes() {
  size_t free = 0;
  size_t total = 0;
  check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return free;
}

Stream create_stream() {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  return reinterpret_cast<Stream>(stream);
}

void destroy_stream(Stream stream) { cudaStreamDestroy(native(stream)); }

void copy_to_device(Stream stream, void* target, const void* source, size_t bytes) {
  check(cudaMemcpyAsync(target, source, bytes, cudaMemcpyHostToDevice, native(stream)),
        "copy to the device");
}

void copy_to_host(Stream stream, void* target, const void* source, size_t bytes) {
  check(cudaMemcpyAsync(target, source, bytes, cudaMemcpyDeviceToHost, native(stream)),
        "copy to the host");
}

void fill(Stream stream, void* target, uint8_t byte, size_t bytes) {
  check(cudaMemsetAsync(target, byte, bytes, native(stream)), "cudaMemset");
}

void synchronize(Stream stream) { check(cudaStreamSynchronize(native(stream)), "a kernel"); }

void check_launch() { check(cudaPeekAtLastError(), "launch"); }

}  // namespace erne::gpu
