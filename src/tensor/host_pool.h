// Many small allocations out of few large ones, which the system can back with huge pages: weights
// of a few megabytes are read at memory speed only so (a hardware prefetcher stops at the end of a
// 4 KB page, and every page costs a translation).
#pragma once

#include <cstddef>

#include "tensor/buffer.h"

namespace erne {

/// Not thread-safe, but buffers may be dropped anywhere and may outlive the pool: a chunk is
/// unmapped with its last buffer.
class HostPool {
 public:
  HostPool() = default;
  HostPool(const HostPool&) = delete;
  HostPool& operator=(const HostPool&) = delete;
  ~HostPool();

  /// As Buffer::host; large sizes get memory of their own.
  Buffer take(size_t size);

 private:
  struct Chunk;
  static void release(void* data, size_t size);
  static void drop(Chunk* chunk);

  Chunk* chunk_ = nullptr;  ///< the one being filled; the pool counts as one of its users
};

}  // namespace erne
