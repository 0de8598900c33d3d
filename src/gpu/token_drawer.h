// The draws of a step: one packed copy in, one kernel, the ids back through page-locked memory.
#pragma once

#include <cstdint>
#include <span>

#include "device/draw.h"
#include "gpu/memory.h"
#include "tensor/tensor.h"

namespace erne::gpu {

class TokenDrawer {
 public:
  explicit TokenDrawer(Stream stream) : stream_(stream) {}

  /// As Device::draw. Waits for the stream.
  std::span<const int32_t> draw(const Tensor& logits, std::span<const Draw> draws,
                                std::span<const LogitEdit> edits);

 private:
  void reserve(size_t packet_bytes, size_t count);

  Stream stream_;
  Pinned packet_;  // draws, then edits
  Buffer packet_there_;
  size_t packet_bytes_ = 0;
  Pinned ids_;
  Buffer ids_there_;
  size_t count_ = 0;
};

}  // namespace erne::gpu
