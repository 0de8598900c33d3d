// Writes GGUF files for tests: good ones, and with the raw functions also bad ones.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"

namespace erne::testing_support {

class GgufBuilder {
 public:
  GgufBuilder& u32(std::string_view key, uint32_t value) { return scalar(key, 4, value); }
  GgufBuilder& f32(std::string_view key, float value) { return scalar(key, 6, value); }
  GgufBuilder& boolean(std::string_view key, bool value) {
    return scalar(key, 7, static_cast<uint8_t>(value));
  }
  GgufBuilder& text(std::string_view key, std::string_view value) {
    begin(key, 8);
    put_text(metadata_, value);
    return *this;
  }
  GgufBuilder& texts(std::string_view key, const std::vector<std::string>& values) {
    begin(key, 9);
    put(metadata_, uint32_t{8});
    put(metadata_, uint64_t{values.size()});
    for (const std::string& value : values) put_text(metadata_, value);
    return *this;
  }
  GgufBuilder& i32s(std::string_view key, const std::vector<int32_t>& values) {
    return array(key, 5, values);
  }
  GgufBuilder& f32s(std::string_view key, const std::vector<float>& values) {
    return array(key, 6, values);
  }

  /// shape: outermost first, as our tensors have it. The offset follows from what was added before.
  GgufBuilder& tensor(std::string_view name, const std::vector<int64_t>& shape, uint32_t type,
                      std::span<const std::byte> data) {
    data_.resize((data_.size() + 31) / 32 * 32);
    table_entry(name, {shape.rbegin(), shape.rend()}, type, data_.size());
    data_.append(reinterpret_cast<const char*>(data.data()), data.size());
    return *this;
  }
  /// A row of the table, unchecked; dims innermost first.
  GgufBuilder& table_entry(std::string_view name, const std::vector<int64_t>& dims, uint32_t type,
                           uint64_t offset) {
    put_text(table_, name);
    put(table_, static_cast<uint32_t>(dims.size()));
    for (const int64_t dim : dims) put(table_, dim);
    put(table_, type);
    put(table_, offset);
    ++num_tensors_;
    return *this;
  }
  /// Raw bytes behind the metadata; counts as one key.
  GgufBuilder& raw_key(std::string_view bytes) {
    metadata_ += bytes;
    ++num_keys_;
    return *this;
  }
  GgufBuilder& raw_data(std::string_view bytes) {
    data_ += bytes;
    return *this;
  }

  std::string bytes(uint32_t version = 3, std::string_view magic = "GGUF") const {
    std::string out(magic);
    put(out, version);
    put(out, num_tensors_);
    put(out, num_keys_);
    out += metadata_ + table_;
    out.resize((out.size() + 31) / 32 * 32);
    return out + data_;
  }
  void write(const std::filesystem::path& path) const { write_file(path, bytes()); }

  template <typename T>
  static void put(std::string& out, T value) {
    char raw[sizeof(T)];
    std::memcpy(raw, &value, sizeof value);
    out.append(raw, sizeof raw);
  }
  static void put_text(std::string& out, std::string_view text) {
    put(out, uint64_t{text.size()});
    out += text;
  }

 private:
  void begin(std::string_view key, uint32_t type) {
    put_text(metadata_, key);
    put(metadata_, type);
    ++num_keys_;
  }
  template <typename T>
  GgufBuilder& scalar(std::string_view key, uint32_t type, T value) {
    begin(key, type);
    put(metadata_, value);
    return *this;
  }
  template <typename T>
  GgufBuilder& array(std::string_view key, uint32_t type, const std::vector<T>& values) {
    begin(key, 9);
    put(metadata_, type);
    put(metadata_, uint64_t{values.size()});
    for (const T value : values) put(metadata_, value);
    return *this;
  }

  std::string metadata_;
  std::string table_;
  std::string data_;
  uint64_t num_keys_ = 0;
  uint64_t num_tensors_ = 0;
};

}  // namespace erne::testing_support
