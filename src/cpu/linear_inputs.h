// What a quantised linear asks of its inputs before a kernel sees them.
#pragma once

#include <vector>

#include "base/thread_pool.h"
#include "cpu/kernels.h"
#include "tensor/code_rows.h"
#include "tensor/tensor.h"

namespace erne::cpu {

/// Throws Error{kUnsupported} for inputs that no kernel has: one scale a row beside groups or
/// minima, rotations that do not fit k.
void check_inputs(const CodeFormat& format, Inputs inputs, int64_t k);

/// Rotated inputs; the memory grows with the largest.
class Rotation {
 public:
  /// x [rows, k] if block is 1, else x H as f32, until the next call.
  Tensor apply(const Tensor& x, int32_t block, const Kernels& kernels, ThreadPool& pool);

 private:
  std::vector<float> memory_;
};

}  // namespace erne::cpu
