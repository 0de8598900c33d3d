// Who owns memory: Buffer. Host memory here; a device backend hands out Buffers with its own
// deleter.
#pragma once

#include <cstddef>
#include <utility>

namespace erne {

/// Owns one allocation. Move-only.
class Buffer {
 public:
  using Deleter = void (*)(void* data, size_t size);

  Buffer() = default;
  Buffer(void* data, size_t size, Deleter deleter) : data_(data), size_(size), deleter_(deleter) {}
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)),
        deleter_(std::exchange(other.deleter_, nullptr)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(deleter_, other.deleter_);
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() {
    if (data_ != nullptr && deleter_ != nullptr) deleter_(data_, size_);
  }

  /// Zeroed host memory aligned to 64 bytes, with 64 readable bytes after the end; large ones are
  /// page-aligned and ask for huge pages. Throws Error{kOutOfMemory} with the size.
  static Buffer host(size_t size);

  void* data() { return data_; }
  const void* data() const { return data_; }
  template <typename T>
  T* as() {
    return static_cast<T*>(data_);
  }
  template <typename T>
  const T* as() const {
    return static_cast<const T*>(data_);
  }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

 private:
  void* data_ = nullptr;
  size_t size_ = 0;
  Deleter deleter_ = nullptr;
};

}  // namespace erne
