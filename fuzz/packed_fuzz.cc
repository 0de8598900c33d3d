// The metadata of a packed folder's file. What is accepted must be true: every weight whole pages
// inside the file, its words ones that are written again.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <span>

#include "base/error.h"
#include "model/packed_weights.h"
#include "tensor/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // As a mapped file lies: at the start of a page.
  constexpr std::align_val_t kPage{erne::kPackedAlign};
  const auto release = [](void* memory) { ::operator delete(memory, kPage); };
  const std::unique_ptr<void, decltype(release)> copy(::operator new(size + 1, kPage), release);
  if (size > 0) std::memcpy(copy.get(), data, size);
  const std::span bytes(static_cast<const std::byte*>(copy.get()), size);
  try {
    const erne::SafetensorsFile file = erne::SafetensorsFile::parse(bytes, "input");
    const erne::PackedWeights packed = erne::read_packed_weights(file);
    unsigned sum = 0;
    for (const auto& [name, w] : packed.linears) {
      const auto begin = static_cast<size_t>(w.data.data() - bytes.data());
      const bool whole = begin % erne::kPackedAlign == 0 && w.data.size() % erne::kPackedAlign == 0;
      if (!whole || begin > size || w.data.size() > size - begin) __builtin_trap();
      if (w.n < 1 || w.k < 1 || erne::packed_text(w).empty()) __builtin_trap();
      sum += std::to_integer<unsigned>(w.data.front()) + std::to_integer<unsigned>(w.data.back());
    }
    if (sum == 0xFFFFFFFFU) __builtin_trap();  // keeps the reads
  } catch (const erne::Error&) {
  }
  return 0;
}
