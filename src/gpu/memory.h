// Device memory as Buffers, and the way of host data into it.
#pragma once

#include <functional>
#include <span>

#include "gpu/rt/runtime.h"
#include "tensor/buffer.h"

namespace erne::gpu {

/// Uninitialised.
Buffer device_buffer(size_t bytes);

/// Copies through a page-locked piece of memory.
class Uploader {
 public:
  explicit Uploader(Stream stream) : stream_(stream) {}

  /// Returns when `bytes` are on the device.
  void copy(void* target, const void* source, size_t bytes);
  /// The same for rows that write_rows(first, count, place) puts down, row_bytes each.
  using WriteRows = std::function<void(int64_t first, int64_t count, uint8_t* place)>;
  void copy_rows(void* target, int64_t rows, size_t row_bytes, const WriteRows& write_rows);

 private:
  uint8_t* piece(size_t bytes);

  Stream stream_;
  Pinned pinned_;
  size_t size_ = 0;
};

}  // namespace erne::gpu
