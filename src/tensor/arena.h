// Arena: the memory of one step's activations. One allocation, bumped and reset; no malloc inside a
// step.
#pragma once

#include <cstddef>
#include <utility>

#include "tensor/buffer.h"
#include "tensor/tensor.h"

namespace erne {

class Arena {
 public:
  Arena() = default;
  /// Over memory of any device; `memory` outlives the tensors taken from it.
  explicit Arena(Buffer memory) : memory_(std::move(memory)) {}
  /// Hands out tensors without memory and only counts: for the dry run that sizes a real arena.
  static Arena counting();

  /// Uninitialised, aligned to 64 bytes, valid until reset() or until a Mark taken before it is
  /// dropped. Aborts (a broken invariant: the arena is sized from the largest step) when full.
  Tensor take(DType dtype, const Shape& shape);
  void reset() { used_ = 0; }
  size_t used() const { return used_; }
  /// Largest use so far: what a dry run reports.
  size_t high_water() const { return high_water_; }
  size_t capacity() const { return memory_.size(); }

  /// Frees what was taken after it when it goes out of scope.
  class Mark {
   public:
    explicit Mark(Arena& arena) : arena_(arena), used_(arena.used_) {}
    Mark(const Mark&) = delete;
    Mark& operator=(const Mark&) = delete;
    ~Mark() { arena_.used_ = used_; }

   private:
    Arena& arena_;
    size_t used_;
  };

 private:
  Buffer memory_;
  bool counting_ = false;
  size_t used_ = 0;
  size_t high_water_ = 0;
};

}  // namespace erne
