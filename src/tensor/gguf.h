// GGUF: llama.cpp's file format. Typed key-value metadata, a tensor table, then aligned data. Read
// only; every length, count, type and offset is checked before use. Format: ggml's docs/gguf.md,
// versions 2 and 3, little endian.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/file.h"
#include "tensor/gguf_blocks.h"

namespace erne {

struct GgufTensor {
  std::string name;
  GgufType type = GgufType::kF32;
  std::vector<int64_t> shape;       ///< outermost first (the file stores it innermost first)
  const std::byte* data = nullptr;  ///< may be unaligned
  uint64_t bytes = 0;
};

class GgufFile {
 public:
  /// Throws Error{kNotFound, kIo}; Error{kCorrupt} naming file, key or tensor, and cause;
  /// Error{kUnsupported} for tensor types that cannot be dequantised, other versions and big-endian
  /// files.
  static GgufFile open(const std::filesystem::path& path);
  /// The same over bytes in memory, which must outlive the result; `what` names them in errors.
  static GgufFile parse(std::span<const std::byte> bytes, std::string what);
  /// Whether a file begins like a GGUF file (and so is none of ours to refuse as something else).
  static bool looks_like(const std::filesystem::path& path);

  const std::string& what() const { return what_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  /// Null when absent.
  const GgufTensor* find(std::string_view name) const;

  /// Metadata by key; nullopt when absent, Error{kCorrupt} when of another type. Integers of any
  /// width are one type.
  std::optional<int64_t> integer(const std::string& key) const;
  std::optional<double> number(const std::string& key) const;
  std::optional<bool> boolean(const std::string& key) const;
  std::optional<std::string> text(const std::string& key) const;
  std::optional<std::vector<std::string_view>> texts(const std::string& key) const;
  std::optional<std::vector<int64_t>> integers(const std::string& key) const;
  std::optional<std::vector<double>> numbers(const std::string& key) const;

 private:
  struct Value {
    uint32_t type = 0;
    uint32_t element = 0;  ///< of an array
    uint64_t count = 0;    ///< of an array
    const std::byte* data = nullptr;
  };
  class Reader;

  GgufFile() = default;
  void load(std::span<const std::byte> bytes, std::string what);
  void read_metadata(Reader& reader, uint64_t count);
  void read_table(Reader& reader, uint64_t count);
  void place_data(std::span<const std::byte> bytes, uint64_t table_end);
  const Value* value(const std::string& key) const;
  [[noreturn]] void wrong_type(const std::string& key, const Value& value,
                               std::string_view wanted) const;

  MappedFile map_;
  std::string what_;
  std::unordered_map<std::string, Value> metadata_;
  std::vector<GgufTensor> tensors_;
  std::vector<uint64_t> offsets_;  ///< of tensors_, from the start of the data
  std::unordered_map<std::string_view, size_t> by_name_;
};

}  // namespace erne
