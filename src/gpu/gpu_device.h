// A GPU as a Device. Host code here is plain C++ over gpu/rt and gpu/kernels; it is compiled once
// for CUDA (liberne_cuda.so) and once for the emulation of the tests.
#pragma once

#include <memory>

#include "device/device.h"

namespace erne {

/// `threads` of the host pack weights while a model loads; 0 means all cores. Throws Error as
/// gpu::open_card does.
std::unique_ptr<Device> make_gpu_device(int index, int threads);

}  // namespace erne
