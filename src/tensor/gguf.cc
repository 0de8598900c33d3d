// Reading GGUF: a cursor that cannot leave the file, then the metadata, the tensor table and the
// placement of the data.
#include "tensor/gguf.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <fstream>
#include <limits>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "tensor/safetensors.h"

namespace erne {
namespace {

constexpr uint64_t kMaxNameBytes = 65535;  // the format's bound for keys
constexpr uint32_t kMaxDims = 4;
constexpr int64_t kDefaultAlignment = 32;
constexpr std::string_view kMagic = "GGUF";

// Metadata value types, by id.
enum ValueType : uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64
};

// 0 for strings, arrays and unknown ids.
uint64_t value_bytes(uint32_t type) {
  constexpr std::array<uint64_t, 13> kBytes{1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return type < kBytes.size() ? kBytes[type] : 0;
}

bool is_integer(uint32_t type) {
  return type != kF32 && type != kF64 && type != kBool && value_bytes(type) > 0;
}
bool is_number(uint32_t type) { return is_integer(type) || type == kF32 || type == kF64; }

template <typename T>
T load_as(const std::byte* data) {
  T value;
  std::memcpy(&value, data, sizeof value);
  return value;
}

// An integer of any width; nullopt for an unsigned one above int64.
std::optional<int64_t> load_integer(uint32_t type, const std::byte* data) {
  switch (type) {
    case kU8:
      return load_as<uint8_t>(data);
    case kI8:
      return load_as<int8_t>(data);
    case kU16:
      return load_as<uint16_t>(data);
    case kI16:
      return load_as<int16_t>(data);
    case kU32:
      return load_as<uint32_t>(data);
    case kI32:
      return load_as<int32_t>(data);
    case kI64:
      return load_as<int64_t>(data);
    case kU64: {
      const auto value = load_as<uint64_t>(data);
      if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
      return static_cast<int64_t>(value);
    }
    default:
      return std::nullopt;
  }
}

std::optional<double> load_number(uint32_t type, const std::byte* data) {
  if (type == kF32) return static_cast<double>(load_as<float>(data));
  if (type == kF64) return load_as<double>(data);
  const std::optional<int64_t> integer = load_integer(type, data);
  return integer ? std::optional(static_cast<double>(*integer)) : std::nullopt;
}

}  // namespace

// A cursor that never leaves the file.
class GgufFile::Reader {
 public:
  Reader(std::span<const std::byte> bytes, const std::string& what) : bytes_(bytes), what_(what) {}

  /// `size` bytes; `subject` says in messages what was being read.
  const std::byte* take(uint64_t size, std::string_view subject) {
    if (size > bytes_.size() - at_) {
      fail(Code::kCorrupt, "{}: {} needs {} bytes at offset {}, the file ends at {} (truncated?)",
           what_, subject, size, at_, bytes_.size());
    }
    const std::byte* data = bytes_.data() + at_;
    at_ += size;
    return data;
  }
  template <typename T>
  T read(std::string_view subject) {
    return load_as<T>(take(sizeof(T), subject));
  }
  std::string_view text(std::string_view subject) {
    const auto size = read<uint64_t>(subject);
    return {reinterpret_cast<const char*>(take(size, subject)), size};
  }
  std::string_view name(std::string_view subject) {
    const auto size = read<uint64_t>(subject);
    if (size == 0 || size > kMaxNameBytes) {
      fail(Code::kCorrupt, "{}: {} of {} bytes; 1 to {} are valid", what_, subject, size,
           kMaxNameBytes);
    }
    return {reinterpret_cast<const char*>(take(size, subject)), size};
  }
  uint64_t at() const { return at_; }

 private:
  std::span<const std::byte> bytes_;
  const std::string& what_;
  uint64_t at_ = 0;
};

GgufFile GgufFile::open(const std::filesystem::path& path) {
  GgufFile file;
  file.map_ = MappedFile(path);
  file.load(file.map_.bytes(), path.string());
  return file;
}

GgufFile GgufFile::parse(std::span<const std::byte> bytes, std::string what) {
  GgufFile file;
  file.load(bytes, std::move(what));
  return file;
}

bool GgufFile::looks_like(const std::filesystem::path& path) {
  std::array<char, kMagic.size()> head{};
  std::ifstream file(path, std::ios::binary);
  return file.read(head.data(), head.size()) &&
         std::string_view(head.data(), head.size()) == kMagic;
}

void GgufFile::load(std::span<const std::byte> bytes, std::string what) {
  what_ = std::move(what);
  Reader reader(bytes, what_);
  const std::byte* magic = reader.take(kMagic.size(), "the magic word");
  if (std::memcmp(magic, kMagic.data(), kMagic.size()) != 0) {
    fail(Code::kCorrupt, "{}: does not begin with 'GGUF'", what_);
  }
  const auto version = reader.read<uint32_t>("the version");
  if (version != 2 && version != 3) {
    const bool swapped = (version & 0xFFFFU) == 0;
    fail(Code::kUnsupported, "{}: GGUF version {}{} is not supported; 2 and 3 are", what_, version,
         swapped ? " (a big-endian file?)" : "");
  }
  const auto num_tensors = reader.read<uint64_t>("the number of tensors");
  const auto num_keys = reader.read<uint64_t>("the number of keys");
  read_metadata(reader, num_keys);
  read_table(reader, num_tensors);
  place_data(bytes, reader.at());
}

void GgufFile::read_metadata(Reader& reader, uint64_t count) {
  for (uint64_t i = 0; i < count; ++i) {
    const std::string key(reader.name("a metadata key"));
    const std::string subject = fmt::format("key '{}'", printable_name(key));
    Value value{reader.read<uint32_t>(subject), 0, 0, nullptr};
    if (value.type == kArray) {
      value.element = reader.read<uint32_t>(subject);
      value.count = reader.read<uint64_t>(subject);
    }
    const uint32_t scalar = value.type == kArray ? value.element : value.type;
    if (scalar != kString && value_bytes(scalar) == 0) {
      fail(Code::kCorrupt, "{}: {} has the unknown or nested value type {}", what_, subject,
           scalar);
    }
    value.data = reader.take(0, subject);
    const uint64_t num_values = value.type == kArray ? value.count : 1;
    if (scalar == kString) {
      for (uint64_t j = 0; j < num_values; ++j) reader.text(subject);
    } else {
      uint64_t size = 0;
      if (__builtin_mul_overflow(num_values, value_bytes(scalar), &size)) {
        fail(Code::kCorrupt, "{}: {} is an array of {} values", what_, subject, num_values);
      }
      reader.take(size, subject);
    }
    if (!metadata_.emplace(key, value).second)
      fail(Code::kCorrupt, "{}: {} stands twice", what_, subject);
  }
}

void GgufFile::read_table(Reader& reader, uint64_t count) {
  for (uint64_t i = 0; i < count; ++i) {
    GgufTensor tensor;
    tensor.name = std::string(reader.name("a tensor name"));
    const std::string subject = fmt::format("tensor '{}'", printable_name(tensor.name));
    const auto num_dims = reader.read<uint32_t>(subject);
    if (num_dims == 0 || num_dims > kMaxDims) {
      fail(Code::kCorrupt, "{}: {} has {} dimensions; 1 to {} are valid", what_, subject, num_dims,
           kMaxDims);
    }
    uint64_t elements = 1;
    for (uint32_t d = 0; d < num_dims; ++d) {
      const auto dim = reader.read<uint64_t>(subject);
      const bool bad = dim == 0 || __builtin_mul_overflow(elements, dim, &elements) ||
                       elements >= uint64_t{1} << 60;
      if (bad)
        fail(Code::kCorrupt, "{}: {} has dimension {}, which cannot be", what_, subject, dim);
      tensor.shape.insert(tensor.shape.begin(), static_cast<int64_t>(dim));
    }
    const auto type_id = reader.read<uint32_t>(subject);
    const std::optional<GgufType> type = gguf_type(type_id);
    if (!type) {
      fail(Code::kUnsupported,
           "{}: {} is stored as {}; F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K "
           "and Q6_K are supported",
           what_, subject, gguf_type_name(type_id));
    }
    tensor.type = *type;
    const GgufBlock block = gguf_block(*type);
    if (tensor.shape.back() % block.values != 0) {
      fail(Code::kCorrupt, "{}: {} has rows of {} values; {} needs a multiple of {}", what_,
           subject, tensor.shape.back(), gguf_type_name(type_id), block.values);
    }
    tensor.bytes =
        elements / static_cast<uint64_t>(block.values) * static_cast<uint64_t>(block.bytes);
    offsets_.push_back(reader.read<uint64_t>(subject));
    tensors_.push_back(std::move(tensor));
  }
  for (size_t i = 0; i < tensors_.size(); ++i) {
    if (!by_name_.emplace(tensors_[i].name, i).second) {
      fail(Code::kCorrupt, "{}: tensor '{}' stands twice", what_, printable_name(tensors_[i].name));
    }
  }
}

void GgufFile::place_data(std::span<const std::byte> bytes, uint64_t table_end) {
  const int64_t alignment = integer("general.alignment").value_or(kDefaultAlignment);
  if (alignment < 1 || alignment > (int64_t{1} << 20) ||
      !std::has_single_bit(static_cast<uint64_t>(alignment))) {
    fail(Code::kCorrupt, "{}: general.alignment is {}; a power of two up to 2^20 is valid", what_,
         alignment);
  }
  const auto step = static_cast<uint64_t>(alignment);
  const uint64_t start = (table_end + step - 1) / step * step;
  const uint64_t data_bytes = start < bytes.size() ? bytes.size() - start : 0;
  std::vector<size_t> order(tensors_.size());
  std::iota(order.begin(), order.end(), size_t{0});
  for (size_t i = 0; i < tensors_.size(); ++i) {
    GgufTensor& tensor = tensors_[i];
    if (offsets_[i] % step != 0) {
      fail(Code::kCorrupt, "{}: tensor '{}' at offset {}, not a multiple of the alignment {}",
           what_, printable_name(tensor.name), offsets_[i], alignment);
    }
    if (offsets_[i] > data_bytes || tensor.bytes > data_bytes - offsets_[i]) {
      fail(Code::kCorrupt,
           "{}: tensor '{}' ({} bytes at {}) leaves the file's {} data bytes (truncated?)", what_,
           printable_name(tensor.name), tensor.bytes, offsets_[i], data_bytes);
    }
    tensor.data = bytes.data() + start + offsets_[i];
  }
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return offsets_[a] < offsets_[b]; });
  for (size_t i = 1; i < order.size(); ++i) {
    const GgufTensor& before = tensors_[order[i - 1]];
    if (offsets_[order[i]] >= offsets_[order[i - 1]] + before.bytes) continue;
    fail(Code::kCorrupt, "{}: tensors '{}' and '{}' overlap", what_, printable_name(before.name),
         printable_name(tensors_[order[i]].name));
  }
}

const GgufTensor* GgufFile::find(std::string_view name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : &tensors_[it->second];
}

const GgufFile::Value* GgufFile::value(const std::string& key) const {
  const auto it = metadata_.find(key);
  return it == metadata_.end() ? nullptr : &it->second;
}

void GgufFile::wrong_type(const std::string& key, const Value& value,
                          std::string_view wanted) const {
  fail(Code::kCorrupt, "{}: key '{}' has value type {}{}; {} is valid", what_, key,
       value.type == kArray ? "array of " : "", value.type == kArray ? value.element : value.type,
       wanted);
}

std::optional<int64_t> GgufFile::integer(const std::string& key) const {
  const Value* v = value(key);
  if (v == nullptr) return std::nullopt;
  const std::optional<int64_t> integer = load_integer(v->type, v->data);
  if (!integer) wrong_type(key, *v, "an integer below 2^63");
  return integer;
}

std::optional<double> GgufFile::number(const std::string& key) const {
  const Value* v = value(key);
  if (v == nullptr) return std::nullopt;
  const std::optional<double> number = load_number(v->type, v->data);
  if (!number) wrong_type(key, *v, "a number");
  return number;
}

std::optional<bool> GgufFile::boolean(const std::string& key) const {
  const Value* v = value(key);
  if (v == nullptr) return std::nullopt;
  if (v->type != kBool) wrong_type(key, *v, "a boolean");
  return load_as<uint8_t>(v->data) != 0;
}

std::optional<std::string> GgufFile::text(const std::string& key) const {
  const Value* v = value(key);
  if (v == nullptr) return std::nullopt;
  if (v->type != kString) wrong_type(key, *v, "a string");
  const auto size = load_as<uint64_t>(v->data);
  return std::string(reinterpret_cast<const char*>(v->data + sizeof size), size);
}

std::optional<std::vector<std::string_view>> GgufFile::texts(const std::string& key) const {
  const Value* v = value(key);
  if (v == nullptr) return std::nullopt;
  if (v->type != kArray || v->element != kString) wrong_type(key, *v, "an array of strings");
  std::vector<std::string_view> list;
  list.reserve(v->count);
  const std::byte* at = v->data;
  for (uint64_t i = 0; i < v->count; ++i) {
    const auto size = load_as<uint64_t>(at);
    list.emplace_back(reinterpret_cast<const char*>(at + sizeof size), size);
    at += sizeof size + size;
  }
  return list;
}

std::optional<std::vector<int64_t>> GgufFile::integers(const std::string& key) const {
  const Value* v = value(key);
  if (v == nullptr) return std::nullopt;
  if (v->type != kArray || !is_integer(v->element)) wrong_type(key, *v, "an array of integers");
  std::vector<int64_t> list;
  list.reserve(v->count);
  for (uint64_t i = 0; i < v->count; ++i) {
    const auto integer = load_integer(v->element, v->data + i * value_bytes(v->element));
    if (!integer) wrong_type(key, *v, "integers below 2^63");
    list.push_back(*integer);
  }
  return list;
}

std::optional<std::vector<double>> GgufFile::numbers(const std::string& key) const {
  const Value* v = value(key);
  if (v == nullptr) return std::nullopt;
  if (v->type != kArray || !is_number(v->element)) wrong_type(key, *v, "an array of numbers");
  std::vector<double> list;
  list.reserve(v->count);
  for (uint64_t i = 0; i < v->count; ++i) {
    const auto number = load_number(v->element, v->data + i * value_bytes(v->element));
    if (!number) wrong_type(key, *v, "numbers");
    list.push_back(*number);
  }
  return list;
}

}  // namespace erne
