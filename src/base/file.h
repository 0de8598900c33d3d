// Files: read-only maps, bounded reads, and writes that appear whole or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace erne {

/// A file mapped read-only, at an address that huge pages can back. Movable; unmaps on destruction.
/// An empty file is valid and maps to an empty span. A file that another process truncates while it
/// is mapped is outside what can be checked (SIGBUS).
class MappedFile {
 public:
  MappedFile() = default;
  /// Throws Error{kNotFound} or Error{kIo} naming the path.
  explicit MappedFile(const std::filesystem::path& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

/// Reads these bytes of a mapped file into memory and maps them, in huge pages where the file
/// system has them: whole multiples of 2 MiB of the file are one page then. Best effort.
void bring_in_pages(const std::byte* data, size_t size);

/// Whether at least half of what is resident of the mapping that bring_in_pages() made at `data`
/// lies in huge pages.
bool has_huge_pages(const std::byte* data);

/// Tells the system that these bytes of a mapped file will not be read again soon: they stop
/// counting as this process's memory.
void release_pages(const std::byte* data, size_t size);

/// Whole file as a string; throws Error{kNotFound}, Error{kIo}, or Error{kInvalidArgument} if
/// larger than max_bytes.
std::string read_file(const std::filesystem::path& path, size_t max_bytes = size_t{256} << 20);

/// "PATH.tmp-<pid>-<n>": a name of its own for every call, also among the threads of a process.
std::filesystem::path temporary_beside(const std::filesystem::path& path);

/// Writes to temporary_beside(path) and renames over it in commit(). Without
/// commit() nothing is left.
class AtomicFile {
 public:
  explicit AtomicFile(const std::filesystem::path& path);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  void write(const void* data, size_t size);
  void write(std::string_view text) { write(text.data(), text.size()); }
  uint64_t written() const { return written_; }
  /// Flushes to disk (fsync), renames. Throws Error{kIo} naming the path and the cause.
  void commit();

 private:
  std::filesystem::path target_;
  std::filesystem::path temporary_;
  int fd_ = -1;
  uint64_t written_ = 0;
};

/// AtomicFile for a whole text.
void write_file(const std::filesystem::path& path, std::string_view text);

}  // namespace erne
