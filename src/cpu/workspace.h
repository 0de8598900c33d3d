// Memory of the worker threads: grown when weights or shapes become known, reused by every call.
#pragma once

#include <algorithm>
#include <vector>

#include "cpu/kernels.h"
#include "tensor/buffer.h"

namespace erne::cpu {

class Workspace {
 public:
  explicit Workspace(int num_threads) : buffers_(static_cast<size_t>(num_threads)) {}

  /// Every thread's scratch holds at least `bytes` afterwards; its contents are lost when it grows.
  void reserve(size_t bytes) {
    if (bytes <= bytes_) return;
    for (Buffer& buffer : buffers_) buffer = Buffer::host(bytes);
    bytes_ = bytes;
  }
  Scratch of(int thread) { return {buffers_[static_cast<size_t>(thread)].data(), bytes_}; }

 private:
  std::vector<Buffer> buffers_;
  size_t bytes_ = 0;
};

}  // namespace erne::cpu
