#include "tensor/arena.h"

#include <algorithm>

#include "base/error.h"

namespace erne {

Arena Arena::counting() {
  Arena arena;
  arena.counting_ = true;
  return arena;
}

Tensor Arena::take(DType dtype, const Shape& shape) {
  Tensor tensor{nullptr, dtype, shape};
  const size_t size = (tensor.bytes() + 63) & ~size_t{63};
  if (!counting_) {
    ERNE_CHECK(used_ + size <= memory_.size(), "arena of {} bytes, {} used, {} wanted for {}",
               memory_.size(), used_, size, shape.str());
    tensor.data = memory_.as<std::byte>() + used_;
  }
  used_ += size;
  high_water_ = std::max(high_water_, used_);
  return tensor;
}

}  // namespace erne
