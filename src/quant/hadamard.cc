#include "quant/hadamard.h"

#include <bit>

#include "base/error.h"

namespace erne {

void check_rotation(int64_t cols, int32_t block) {
  if (block < 1 || !std::has_single_bit(static_cast<uint32_t>(block)) || cols % block != 0) {
    fail(Code::kInvalidArgument,
         "rotation over blocks of {}: it must be a power of two that divides the {} inputs", block,
         cols);
  }
}

void hadamard(float* x, int64_t n, int32_t block) {
  for (int64_t half = 1; half < block; half *= 2) {
    for (int64_t start = 0; start < n; start += 2 * half) {
      float* low = x + start;
      float* high = low + half;
      for (int64_t i = 0; i < half; ++i) {
        const float a = low[i];
        const float b = high[i];
        low[i] = a + b;
        high[i] = a - b;
      }
    }
  }
}

}  // namespace erne
