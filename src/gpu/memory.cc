#include "gpu/memory.h"

#include <algorithm>
#include <cstring>

namespace erne::gpu {
namespace {

constexpr size_t kPiece = size_t{32} << 20;

void drop(void* data, size_t) { release(data); }

}  // namespace

Buffer device_buffer(size_t bytes) {
  if (bytes == 0) return {};
  return {allocate(bytes), bytes, drop};
}

uint8_t* Uploader::piece(size_t bytes) {
  if (bytes > size_) {
    pinned_.reset();
    size_ = 0;
    pinned_.reset(static_cast<uint8_t*>(allocate_pinned(bytes)));
    size_ = bytes;
  }
  return pinned_.get();
}

void Uploader::copy(void* target, const void* source, size_t bytes) {
  for (size_t at = 0; at < bytes; at += kPiece) {
    const size_t count = std::min(kPiece, bytes - at);
    uint8_t* staged = piece(count);
    std::memcpy(staged, static_cast<const uint8_t*>(source) + at, count);
    copy_to_device(stream_, static_cast<uint8_t*>(target) + at, staged, count);
    synchronize(stream_);
  }
}

void Uploader::copy_rows(void* target, int64_t rows, size_t row_bytes,
                         const WriteRows& write_rows) {
  const auto at_once = std::max<int64_t>(1, static_cast<int64_t>(kPiece / row_bytes));
  for (int64_t first = 0; first < rows; first += at_once) {
    const int64_t count = std::min(at_once, rows - first);
    const size_t bytes = static_cast<size_t>(count) * row_bytes;
    uint8_t* staged = piece(bytes);
    write_rows(first, count, staged);
    copy_to_device(stream_, static_cast<uint8_t*>(target) + static_cast<size_t>(first) * row_bytes,
                   staged, bytes);
    synchronize(stream_);
  }
}

}  // namespace erne::gpu
