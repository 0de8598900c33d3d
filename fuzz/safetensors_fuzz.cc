// The header of a safetensors file. What is accepted must be true: every tensor inside the file,
// none over another.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/error.h"
#include "tensor/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  try {
    const erne::SafetensorsFile file = erne::SafetensorsFile::parse(bytes, "input");
    const std::byte* end = bytes.data() + size;
    unsigned sum = 0;
    for (const erne::StoredTensor& tensor : file.tensors()) {
      if (tensor.bytes != tensor.info.bytes() || file.find(tensor.info.name) != &tensor)
        __builtin_trap();
      if (tensor.bytes == 0) continue;
      if (tensor.data < bytes.data() || tensor.bytes > static_cast<uint64_t>(end - tensor.data)) {
        __builtin_trap();
      }
      // AddressSanitizer looks at both ends.
      sum += std::to_integer<unsigned>(tensor.data[0]) +
             std::to_integer<unsigned>(tensor.data[tensor.bytes - 1]);
    }
    if (sum == 0xFFFFFFFFU) __builtin_trap();  // keeps the reads
  } catch (const erne::Error&) {
  }
  return 0;
}
