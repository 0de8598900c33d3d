#include "tensor/buffer.h"

#include <sys/mman.h>

#include "base/error.h"
#include "base/progress.h"

namespace erne {
namespace {

// Kernels may read one whole vector past the last element.
constexpr size_t kSlack = 64;

size_t mapped_size(size_t size) { return (size + kSlack + 4095) & ~size_t{4095}; }

void unmap(void* data, size_t size) { ::munmap(data, mapped_size(size)); }

}  // namespace

Buffer Buffer::host(size_t size) {
  if (size == 0) return {};
  if (size > (size_t{1} << 46)) fail(Code::kOutOfMemory, "cannot allocate {} bytes", size);
  void* data = ::mmap(nullptr, mapped_size(size), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) fail(Code::kOutOfMemory, "cannot allocate {}", human_bytes(size));
  if (size >= (size_t{4} << 20)) ::madvise(data, mapped_size(size), MADV_HUGEPAGE);
  return {data, size, unmap};
}

}  // namespace erne
