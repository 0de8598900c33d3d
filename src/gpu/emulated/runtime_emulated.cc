// runtime.h over host memory. What device memory is to the host is kept: no access outside the
// runtime's calls (pages are protected), garbage where nothing was written, a protected page behind
// every allocation, and addresses that never come back.
//
// For tests of whole processes: ERNE_EMULATED_FAULT=N loses the device at its N-th kernel,
// ERNE_EMULATED_MEMORY=BYTES is what the card has.
#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <vector>

#include "base/error.h"
#include "gpu/rt/card_index.h"
#include "gpu/rt/faults.h"
#include "gpu/rt/gpu.h"

namespace erne::gpu {

struct StreamHandle {
  std::deque<std::function<void()>> work;
};

namespace emulated {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kSpace = size_t{1} << 38;
constexpr size_t kAlign = 64;  // of an allocation's first byte

/// A variable of the environment, or `usual`.
int64_t setting(const char* name, int64_t usual) {
  const char* text = std::getenv(name);
  return text == nullptr ? usual : std::atoll(text);
}

size_t pages(size_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

class Memory {
 public:
  Memory() {
    void* space =
        ::mmap(nullptr, kSpace, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ERNE_CHECK(space != MAP_FAILED);
    next_ = static_cast<uint8_t*>(space);
    end_ = next_ + kSpace;
  }

  void* allocate(size_t bytes) {
    const size_t padded = (bytes + kAlign - 1) / kAlign * kAlign;
    if (used_ + padded > total_) device_is_full(bytes, free_bytes());
    const size_t size = pages(padded);
    ERNE_CHECK(next_ + size + kPage <= end_);
    uint8_t* first = next_;
    next_ += size + kPage;
    // The end of the allocation is the end of its last page.
    uint8_t* data = first + size - padded;
    ::mprotect(first, size, PROT_READ | PROT_WRITE);
    std::memset(first, 0xCD, size);
    if (!open_) ::mprotect(first, size, PROT_NONE);
    live_[data] = {first, size, padded};
    used_ += padded;
    return data;
  }

  void release(void* data) {
    const auto found = live_.find(data);
    ERNE_CHECK(found != live_.end(), "release of an address that was not allocated");
    const Allocation a = found->second;
    used_ -= a.bytes;
    live_.erase(found);
    ::madvise(a.first, a.size, MADV_DONTNEED);
    ::mprotect(a.first, a.size, PROT_NONE);
  }

  void open(bool open) {
    if (open == open_) return;
    open_ = open;
    for (const auto& [data, a] : live_)
      ::mprotect(a.first, a.size, open ? PROT_READ | PROT_WRITE : PROT_NONE);
  }

  uint64_t free_bytes() const { return total_ - used_; }
  uint64_t total_bytes() const { return total_; }

 private:
  struct Allocation {
    uint8_t* first;
    size_t size, bytes;
  };
  uint8_t* next_ = nullptr;
  uint8_t* end_ = nullptr;
  bool open_ = false;
  const size_t total_ = static_cast<size_t>(setting("ERNE_EMULATED_MEMORY", int64_t{8} << 30));
  size_t used_ = 0;
  std::map<void*, Allocation> live_;
};

Memory& memory() {
  static Memory* const instance = new Memory;
  return *instance;
}

std::vector<Stream>& streams() {
  static auto* const instance = new std::vector<Stream>;
  return *instance;
}

bool host_access = false;
Counts counts;
int64_t until_fault = setting("ERNE_EMULATED_FAULT", 0);  // kernels, the failing one included
bool lost = false;

void run(Stream stream) {
  if (stream->work.empty()) return;
  memory().open(true);
  while (!stream->work.empty()) {
    if (!lost) stream->work.front()();
    stream->work.pop_front();
  }
  memory().open(host_access);
}

}  // namespace

void enqueue(Stream stream, std::function<void()> work) {
  ++counts.launches;
  if (until_fault > 0 && --until_fault == 0) work = [] { lost = true; };
  stream->work.push_back(std::move(work));
}

Counts take_counts() { return std::exchange(counts, {}); }

void set_host_access(bool allowed) {
  host_access = allowed;
  memory().open(allowed);
}

}  // namespace emulated

Card open_card(int index) {
  check_index(index, 1);
  return {"emulated", "emulated GPU", "kernels as C++ on the CPU", emulated::memory().total_bytes(),
          2};
}

void bind_card(int) {}

void* allocate(size_t bytes) {
  ++emulated::counts.allocations;
  return emulated::memory().allocate(bytes);
}
// As cudaFree: when everything that may use it has run.
void release(void* data) {
  for (const Stream stream : emulated::streams()) emulated::run(stream);
  emulated::memory().release(data);
}
void* allocate_pinned(size_t bytes) {
  ++emulated::counts.allocations;
  return std::malloc(bytes);
}
void release_pinned(void* data) { std::free(data); }
uint64_t free_bytes() { return emulated::memory().free_bytes(); }

Stream create_stream() {
  emulated::streams().push_back(new StreamHandle);
  return emulated::streams().back();
}
void destroy_stream(Stream stream) {
  emulated::run(stream);
  std::erase(emulated::streams(), stream);
  delete stream;
}

void copy_to_device(Stream stream, void* target, const void* source, size_t bytes) {
  stream->work.push_back([=] { std::memcpy(target, source, bytes); });
}
void copy_to_host(Stream stream, void* target, const void* source, size_t bytes) {
  stream->work.push_back([=] { std::memcpy(target, source, bytes); });
}
void fill(Stream stream, void* target, uint8_t byte, size_t bytes) {
  stream->work.push_back([=] { std::memset(target, byte, bytes); });
}

void synchronize(Stream stream) {
  if (!stream->work.empty()) ++emulated::counts.waits;
  emulated::run(stream);
  check_launch();
}

void check_launch() {
  if (emulated::lost) device_failed("a kernel", "ERNE_EMULATED_FAULT");
}

}  // namespace erne::gpu
