// A hash map from 64-bit keys to 64-bit values for the two tables that BPE asks at every character:
// open addressing, one cache line per look-up, read-only after filling.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace erne {

class FlatMap {
 public:
  static constexpr uint64_t kNone = ~uint64_t{0};  // neither a key nor a value

  FlatMap() : slots_(1) {}
  /// Room for `count` different keys.
  explicit FlatMap(size_t count) {
    size_t capacity = 16;
    while (capacity < count * 2) capacity *= 2;
    slots_.resize(capacity);
    mask_ = capacity - 1;
  }

  /// Keeps the value that is there if the key is known.
  void insert(uint64_t key, uint64_t value) {
    Slot& slot = slots_[locate(key)];
    if (slot.key == kNone) slot = {key, value};
  }
  /// kNone if the key is unknown.
  uint64_t find(uint64_t key) const { return slots_[locate(key)].value; }

 private:
  struct Slot {
    uint64_t key = kNone;
    uint64_t value = kNone;
  };
  size_t locate(uint64_t key) const {
    uint64_t hash = key * 0x9E3779B97F4A7C15U;
    hash ^= hash >> 32;
    size_t at = hash & mask_;
    while (slots_[at].key != key && slots_[at].key != kNone) at = (at + 1) & mask_;
    return at;
  }
  std::vector<Slot> slots_;
  size_t mask_ = 0;
};

}  // namespace erne
