// Hashes: XXH3-128 for cache keys, SHA-256 for files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>

namespace erne {

struct Hash128 {
  uint64_t low = 0;
  uint64_t high = 0;
  friend bool operator==(const Hash128&, const Hash128&) = default;
};

/// XXH3-128 of the bytes, chained: pass the previous block's hash to hash a sequence of blocks.
Hash128 hash128(const void* data, size_t size, const Hash128& chain = {});

/// Streaming SHA-256; hex() ends it.
class Sha256 {
 public:
  Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;
  ~Sha256();
  void update(const void* data, size_t size);
  std::string hex();

 private:
  void* context_;
};

/// Lower-case hex digest of a file's content.
std::string sha256_file(const std::filesystem::path& path);

}  // namespace erne
