// The two symbols of liberne_cuda.so that device/backend.cc looks for.
#include "device/backend.h"
#include "gpu/gpu_device.h"

extern "C" {

const char* erne_backend_build() { return erne::backend_build(); }

erne::Device* erne_backend_open(int index, int threads) {
  return erne::make_gpu_device(index, threads).release();
}
}
