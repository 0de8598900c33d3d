// Safetensors: the file format of every checkpoint. Eight bytes of header length, a JSON table of
// (dtype, shape, byte range), then the data. The reader checks the whole table before it hands out
// a pointer; the writer streams. Format: the huggingface/safetensors README.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/file.h"
#include "tensor/dtype.h"

namespace erne {

/// What a tensor is, without its data.
struct TensorInfo {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;

  /// Product of the dimensions times the element size; the reader has made sure that it does not
  /// overflow.
  uint64_t bytes() const;
  /// "[640, 96]"
  std::string shape_text() const;
};

/// A tensor inside a mapped file.
struct StoredTensor {
  TensorInfo info;
  const std::byte* data = nullptr;  ///< may be unaligned
  uint64_t bytes = 0;
};

/// The name as it may stand in a message: control characters replaced, long names cut.
std::string printable_name(std::string_view name);
/// "F32", "BF16", …: the spelling in the header.
std::string_view safetensors_dtype(DType dtype);

class SafetensorsFile {
 public:
  /// Maps the file and checks its table: header length, syntax, duplicate names, dtypes, sizes,
  /// byte ranges, overlaps. Gaps between tensors are allowed. Throws Error{kNotFound, kIo},
  /// Error{kCorrupt} naming file, tensor and cause, or Error{kUnsupported} for a dtype that this
  /// program has no type for.
  static SafetensorsFile open(const std::filesystem::path& path);
  /// The same over bytes in memory, which must outlive the result; `what` names them in errors.
  static SafetensorsFile parse(std::span<const std::byte> bytes, std::string what);

  const std::filesystem::path& path() const { return map_.path(); }
  /// In the order of their data.
  const std::vector<StoredTensor>& tensors() const { return tensors_; }
  /// Null when absent.
  const StoredTensor* find(std::string_view name) const;
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  SafetensorsFile() = default;
  void load(std::span<const std::byte> bytes, const std::string& what);

  MappedFile map_;
  std::vector<StoredTensor> tensors_;
  std::unordered_map<std::string_view, size_t> by_name_;
  std::map<std::string, std::string> metadata_;
};

/// Writes one file: the table is fixed at construction, the data follow in that order in pieces of
/// any size. The target appears whole at commit() or not at all. The data begin at a multiple of
/// data_alignment bytes of the file.
class SafetensorsWriter {
 public:
  SafetensorsWriter(const std::filesystem::path& path, std::vector<TensorInfo> tensors,
                    const std::map<std::string, std::string>& metadata = {{"format", "pt"}},
                    uint64_t data_alignment = 8);
  void write(const void* data, size_t size);
  /// Throws Error{kIo}. Aborts when the bytes written are not those that the table promised.
  void commit();
  /// Header and data.
  uint64_t file_bytes() const { return header_bytes_ + data_bytes_; }

 private:
  AtomicFile file_;
  uint64_t header_bytes_ = 0;
  uint64_t data_bytes_ = 0;
};

}  // namespace erne
