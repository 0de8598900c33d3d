// A step's batch in device memory: one page-locked packet, one copy.
#pragma once

#include <cstdint>
#include <span>

#include "device/device.h"
#include "gpu/kernels/attention.h"
#include "gpu/memory.h"

namespace erne::gpu {

class StepInput {
 public:
  explicit StepInput(Stream stream) : stream_(stream) {}

  /// Copies the batch's arrays over behind what the stream holds. Waits for the stream first if the
  /// packet of the step before may still be read.
  void begin(const Batch& batch);

  /// Where a span of the batch given to begin() is on the device; aborts for any other.
  const int32_t* on_device(std::span<const int32_t> host) const;
  /// The arrays of that batch.
  StepArrays arrays(const Batch& batch) const;
  /// Positions of the longest sequence.
  int64_t longest() const { return longest_; }

 private:
  static constexpr size_t kArrays = 6;  // the batch's, then the sequence of each token
  struct Place {
    const int32_t* host = nullptr;
    size_t count = 0;
    size_t at = 0;  // in the packet, in elements
  };
  void reserve(size_t count);

  Stream stream_;
  Pinned packet_;
  Buffer device_;
  size_t size_ = 0;
  Place places_[kArrays];
  size_t sequence_of_ = 0;
  int64_t longest_ = 0;
};

}  // namespace erne::gpu
