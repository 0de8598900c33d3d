#include "tensor/host_pool.h"

#include <sys/mman.h>

#include <atomic>
#include <cstdint>
#include <new>

#include "base/error.h"
#include "base/progress.h"

namespace erne {
namespace {

// A chunk starts at a multiple of its size, so that a buffer's address leads to it.
constexpr size_t kChunkBytes = size_t{64} << 20;
constexpr size_t kLargest = kChunkBytes / 4;
constexpr size_t kSlack = 64;  // readable bytes after a buffer's end

size_t round_up(size_t size) { return (size + 63) & ~size_t{63}; }

}  // namespace

struct HostPool::Chunk {
  std::atomic<size_t> users{1};
  size_t used = 0;
};

HostPool::~HostPool() {
  if (chunk_ != nullptr) drop(chunk_);
}

void HostPool::drop(Chunk* chunk) {
  if (chunk->users.fetch_sub(1) > 1) return;
  chunk->~Chunk();
  ::munmap(chunk, kChunkBytes);
}

void HostPool::release(void* data, size_t) {
  drop(reinterpret_cast<Chunk*>(reinterpret_cast<uintptr_t>(data) & ~(kChunkBytes - 1)));
}

Buffer HostPool::take(size_t size) {
  if (size == 0 || size > kLargest) return Buffer::host(size);
  const size_t needed = round_up(size);
  if (chunk_ == nullptr || chunk_->used + needed + kSlack > kChunkBytes) {
    // Twice the size surely holds an aligned chunk; the rest goes back.
    void* data = ::mmap(nullptr, 2 * kChunkBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED)
      fail(Code::kOutOfMemory, "cannot allocate {}", human_bytes(kChunkBytes));
    auto* bytes = static_cast<std::byte*>(data);
    const size_t before =
        (kChunkBytes - reinterpret_cast<uintptr_t>(data) % kChunkBytes) % kChunkBytes;
    if (before > 0) ::munmap(bytes, before);
    ::munmap(bytes + before + kChunkBytes, kChunkBytes - before);
    ::madvise(bytes + before, kChunkBytes, MADV_HUGEPAGE);
    if (chunk_ != nullptr) drop(chunk_);
    chunk_ = new (bytes + before) Chunk;
    chunk_->used = round_up(sizeof(Chunk));
  }
  std::byte* data = reinterpret_cast<std::byte*>(chunk_) + chunk_->used;
  chunk_->used += needed;
  chunk_->users.fetch_add(1);
  return {data, size, release};
}

}  // namespace erne
