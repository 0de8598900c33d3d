#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <utility>

#include "base/error.h"

namespace erne {
namespace {

[[noreturn]] void fail_errno(const char* action, const std::filesystem::path& path) {
  const int cause = errno;
  const Code code = cause == ENOENT || cause == ENOTDIR ? Code::kNotFound : Code::kIo;
  fail(code, "cannot {} {}: {}", action, path.string(), std::strerror(cause));
}

// A descriptor that closes itself.
class Descriptor {
 public:
  explicit Descriptor(const std::filesystem::path& path)
      : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (fd_ < 0) fail_errno("open", path);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { ::close(fd_); }
  int get() const { return fd_; }

 private:
  int fd_;
};

size_t regular_file_size(int fd, const std::filesystem::path& path) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) fail_errno("stat", path);
  if (!S_ISREG(info.st_mode))
    fail(Code::kInvalidArgument, "{} is not a regular file", path.string());
  return static_cast<size_t>(info.st_size);
}

constexpr size_t kHugePage = size_t{2} << 20;

// Address space at a multiple of the huge page, for a mapping to be put over it; null: wherever.
void* aligned_place(size_t size) {
  if (size < kHugePage) return nullptr;
  void* place = ::mmap(nullptr, size + kHugePage, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (place == MAP_FAILED) return nullptr;
  const size_t before = (kHugePage - reinterpret_cast<uintptr_t>(place) % kHugePage) % kHugePage;
  auto* aligned = static_cast<std::byte*>(place) + before;
  const size_t mapped = (size + 4095) & ~size_t{4095};
  if (before > 0) ::munmap(place, before);
  ::munmap(aligned + mapped, size + kHugePage - before - mapped);
  return aligned;
}

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
  const Descriptor fd(path);
  size_ = regular_file_size(fd.get(), path);
  if (size_ == 0) return;
  void* place = aligned_place(size_);
  void* mapped = ::mmap(place, size_, PROT_READ, MAP_PRIVATE | (place != nullptr ? MAP_FIXED : 0),
                        fd.get(), 0);
  if (mapped == MAP_FAILED) fail_errno("map", path);
  data_ = static_cast<const std::byte*>(mapped);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

void bring_in_pages(const std::byte* data, size_t size) {
  constexpr int kPopulateRead = 22;  // MADV_POPULATE_READ, since Linux 5.14
  const uintptr_t begin = reinterpret_cast<uintptr_t>(data) & ~uintptr_t{4095};
  const size_t length = reinterpret_cast<uintptr_t>(data) + size - begin;
  ::madvise(reinterpret_cast<void*>(begin), length, MADV_HUGEPAGE);
  ::madvise(reinterpret_cast<void*>(begin), length, kPopulateRead);
}

bool has_huge_pages(const std::byte* data) {
  const auto address = reinterpret_cast<uintptr_t>(data);
  std::ifstream file("/proc/self/smaps");
  bool found = false;
  uint64_t resident = 0;
  for (std::string line; std::getline(file, line);) {
    uintptr_t begin = 0;
    uintptr_t end = 0;
    uint64_t kilobytes = 0;
    if (std::sscanf(line.c_str(), "%" SCNxPTR "-%" SCNxPTR " ", &begin, &end) == 2) {
      found = begin <= address && address < end;
    } else if (found && std::sscanf(line.c_str(), "Rss: %" SCNu64, &kilobytes) == 1) {
      resident = kilobytes;
    } else if (found && std::sscanf(line.c_str(), "FilePmdMapped: %" SCNu64, &kilobytes) == 1) {
      return kilobytes > 0 && kilobytes * 2 >= resident;
    }
  }
  return false;
}

void release_pages(const std::byte* data, size_t size) {
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGE_SIZE));
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(data) + page - 1) / page * page;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(data) + size) / page * page;
  // Whether it works is the system's affair: the bytes stay valid either way.
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

std::string read_file(const std::filesystem::path& path, size_t max_bytes) {
  const Descriptor fd(path);
  const size_t size = regular_file_size(fd.get(), path);
  if (size > max_bytes) {
    fail(Code::kInvalidArgument, "{} has {} bytes; at most {} are read", path.string(), size,
         max_bytes);
  }
  std::string text(size, '\0');
  size_t done = 0;
  while (done < size) {
    const ssize_t n = ::read(fd.get(), text.data() + done, size - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_errno("read", path);
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  text.resize(done);
  return text;
}

std::filesystem::path temporary_beside(const std::filesystem::path& path) {
  static std::atomic<unsigned> counter{0};
  std::filesystem::path name = path;
  name += fmt::format(".tmp-{}-{}", ::getpid(), counter.fetch_add(1));
  return name;
}

AtomicFile::AtomicFile(const std::filesystem::path& path)
    : target_(path), temporary_(temporary_beside(path)) {
  fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd_ < 0) fail_errno("create", temporary_);
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::write(const void* data, size_t size) {
  const char* cursor = static_cast<const char*>(data);
  written_ += size;
  while (size > 0) {
    const ssize_t n = ::write(fd_, cursor, size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_errno("write", temporary_);
    cursor += n;
    size -= static_cast<size_t>(n);
  }
}

void AtomicFile::commit() {
  if (::fsync(fd_) != 0) fail_errno("flush", temporary_);
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail_errno("rename to", target_);
  ::close(std::exchange(fd_, -1));
}

void write_file(const std::filesystem::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

}  // namespace erne
