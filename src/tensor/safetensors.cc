// The header is untrusted: it is read by a SAX handler that accepts exactly the table's grammar, so
// that duplicate keys are seen (a DOM would keep the last one silently) and a hostile header costs
// no more memory than its own entries.
#include "tensor/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <optional>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "base/json.h"

namespace erne {
namespace {

// The reference implementation refuses larger headers too.
constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr size_t kMaxRank = 8;

struct DTypeName {
  DType dtype;
  std::string_view name;
};
constexpr std::array<DTypeName, 14> kDTypeNames{{{DType::kF32, "F32"},
                                                 {DType::kF16, "F16"},
                                                 {DType::kBF16, "BF16"},
                                                 {DType::kF64, "F64"},
                                                 {DType::kI64, "I64"},
                                                 {DType::kI32, "I32"},
                                                 {DType::kI16, "I16"},
                                                 {DType::kI8, "I8"},
                                                 {DType::kU8, "U8"},
                                                 {DType::kU16, "U16"},
                                                 {DType::kU32, "U32"},
                                                 {DType::kU64, "U64"},
                                                 {DType::kBool, "BOOL"},
                                                 {DType::kF8E4M3, "F8_E4M3"}}};

std::optional<DType> parse_dtype(std::string_view name) {
  for (const DTypeName& entry : kDTypeNames) {
    if (entry.name == name) return entry.dtype;
  }
  return std::nullopt;
}

// One row of the table as it is being read.
struct RawEntry {
  std::string name;
  std::optional<std::string> dtype;
  std::optional<std::vector<int64_t>> shape;
  std::optional<std::vector<int64_t>> offsets;
};

class HeaderReader : public nlohmann::json_sax<Json> {
 public:
  HeaderReader(const std::string& what, std::vector<RawEntry>& entries,
               std::map<std::string, std::string>& metadata)
      : what_(what), entries_(entries), metadata_(metadata) {}

  bool null() override { unexpected("null"); }
  bool boolean(bool) override { unexpected("a boolean"); }
  bool number_float(number_float_t, const string_t& text) override { unexpected(text); }
  bool binary(binary_t&) override { unexpected("binary data"); }
  bool number_integer(number_integer_t value) override {
    if (numbers_ != nullptr) corrupt(fmt::format("{} holds the negative number {}", field_, value));
    unexpected("a number");
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (numbers_ == nullptr) unexpected("a number");
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      corrupt(fmt::format("{} holds {}, more than a file can have", field_, value));
    }
    if (numbers_->size() >= kMaxRank) {
      corrupt(fmt::format("{} has more than {} numbers", field_, kMaxRank));
    }
    numbers_->push_back(static_cast<int64_t>(value));
    return true;
  }

  bool string(string_t& text) override {
    if (level_ != 2) unexpected("a string");
    if (in_metadata_) {
      metadata_.emplace(field_, text);
    } else if (field_ == "dtype" && numbers_ == nullptr) {
      entries_.back().dtype = text;
    } else {
      unexpected("a string");
    }
    return true;
  }

  bool start_object(std::size_t) override {
    if (numbers_ != nullptr || level_ >= 2) unexpected("an object");
    ++level_;
    fields_.clear();
    return true;
  }

  bool end_object() override {
    --level_;
    in_metadata_ = false;
    return true;
  }

  bool key(string_t& text) override {
    if (level_ == 1) {
      if (!names_.insert(text).second) {
        fail(Code::kCorrupt, "{}: tensor '{}' stands twice in the header", what_,
             printable_name(text));
      }
      in_metadata_ = text == "__metadata__";
      if (!in_metadata_) entries_.push_back({text, {}, {}, {}});
      return true;
    }
    field_ = text;
    if (!fields_.insert(text).second)
      corrupt(fmt::format("'{}' is given twice", printable_name(text)));
    if (!in_metadata_ && text != "dtype" && text != "shape" && text != "data_offsets") {
      corrupt(fmt::format("unknown field '{}'; dtype, shape and data_offsets are known",
                          printable_name(text)));
    }
    return true;
  }

  bool start_array(std::size_t) override {
    if (level_ != 2 || in_metadata_ || numbers_ != nullptr || field_ == "dtype")
      unexpected("an array");
    auto& target = field_ == "shape" ? entries_.back().shape : entries_.back().offsets;
    numbers_ = &target.emplace();
    return true;
  }

  bool end_array() override {
    numbers_ = nullptr;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& e) override {
    fail(Code::kCorrupt, "{}: the header is not JSON, byte {}: {}", what_, position, e.what());
  }

 private:
  [[noreturn]] void corrupt(const std::string& cause) const {
    if (entries_.empty() || in_metadata_) fail(Code::kCorrupt, "{}: header: {}", what_, cause);
    fail(Code::kCorrupt, "{}: tensor '{}': {}", what_, printable_name(entries_.back().name), cause);
  }
  [[noreturn]] void unexpected(std::string_view token) const {
    corrupt(fmt::format("{} where the format has none", token));
  }

  const std::string& what_;
  std::vector<RawEntry>& entries_;
  std::map<std::string, std::string>& metadata_;
  std::unordered_set<std::string> names_;
  std::unordered_set<std::string> fields_;
  std::vector<int64_t>* numbers_ = nullptr;
  std::string field_;
  int level_ = 0;
  bool in_metadata_ = false;
};

// Bytes of dims * element size; nullopt when that does not fit in 63 bits.
std::optional<uint64_t> checked_bytes(const std::vector<int64_t>& shape, DType dtype) {
  const bool empty = std::find(shape.begin(), shape.end(), 0) != shape.end();
  if (empty) return 0;
  uint64_t product = dtype_bytes(dtype);
  for (const int64_t dim : shape) {
    if (__builtin_mul_overflow(product, static_cast<uint64_t>(dim), &product)) return std::nullopt;
  }
  if (product > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
  return product;
}

// `data` is everything behind the header.
StoredTensor checked_tensor(const RawEntry& raw, std::span<const std::byte> data,
                            const std::string& what) {
  const std::string name = printable_name(raw.name);
  if (!raw.dtype || !raw.shape || !raw.offsets) {
    const char* missing = !raw.dtype ? "dtype" : !raw.shape ? "shape" : "data_offsets";
    fail(Code::kCorrupt, "{}: tensor '{}' has no {}", what, name, missing);
  }
  const std::optional<DType> dtype = parse_dtype(*raw.dtype);
  if (!dtype) {
    fail(Code::kUnsupported, "{}: tensor '{}' has dtype {}, which is not supported", what, name,
         printable_name(*raw.dtype));
  }
  if (raw.offsets->size() != 2) {
    fail(Code::kCorrupt, "{}: tensor '{}': data_offsets has {} numbers, not 2", what, name,
         raw.offsets->size());
  }
  const auto begin = static_cast<uint64_t>((*raw.offsets)[0]);
  const auto end = static_cast<uint64_t>((*raw.offsets)[1]);
  if (begin > end || end > data.size()) {
    fail(Code::kCorrupt,
         "{}: tensor '{}': data_offsets [{}, {}] leave the file's {} data bytes (truncated?)", what,
         name, begin, end, data.size());
  }
  TensorInfo info{raw.name, *dtype, *raw.shape};
  const std::optional<uint64_t> bytes = checked_bytes(info.shape, info.dtype);
  if (!bytes || *bytes != end - begin) {
    fail(Code::kCorrupt, "{}: tensor '{}': shape {} of {} needs {} bytes, data_offsets give {}",
         what, name, info.shape_text(), *raw.dtype, bytes ? fmt::to_string(*bytes) : "too many",
         end - begin);
  }
  return {std::move(info), data.data() + begin, end - begin};
}

}  // namespace

uint64_t TensorInfo::bytes() const {
  uint64_t product = dtype_bytes(dtype);
  for (const int64_t dim : shape) product *= static_cast<uint64_t>(dim);
  return product;
}

std::string TensorInfo::shape_text() const { return fmt::format("[{}]", fmt::join(shape, ", ")); }

std::string printable_name(std::string_view name) {
  constexpr size_t kMaxShown = 160;
  std::string text(name.substr(0, kMaxShown));
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = '?';
  }
  return name.size() > kMaxShown ? text + "..." : text;
}

std::string_view safetensors_dtype(DType dtype) {
  for (const DTypeName& entry : kDTypeNames) {
    if (entry.dtype == dtype) return entry.name;
  }
  return "?";
}

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path) {
  SafetensorsFile file;
  file.map_ = MappedFile(path);
  file.load(file.map_.bytes(), path.string());
  return file;
}

SafetensorsFile SafetensorsFile::parse(std::span<const std::byte> bytes, std::string what) {
  SafetensorsFile file;
  file.load(bytes, what);
  return file;
}

void SafetensorsFile::load(std::span<const std::byte> bytes, const std::string& what) {
  constexpr size_t kPrefix = 8;
  if (bytes.size() < kPrefix) {
    fail(Code::kCorrupt, "{}: {} bytes are too few for a safetensors file (truncated?)", what,
         bytes.size());
  }
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), kPrefix);
  if (header_bytes > bytes.size() - kPrefix || header_bytes > kMaxHeaderBytes) {
    fail(Code::kCorrupt,
         "{}: a header of {} bytes in a file of {} (truncated, or not safetensors; at most {})",
         what, header_bytes, bytes.size(), kMaxHeaderBytes);
  }
  std::string_view header(reinterpret_cast<const char*>(bytes.data()) + kPrefix, header_bytes);
  header.remove_suffix(header.size() - (header.find_last_not_of(' ') + 1));  // what aligns the data
  if (header.empty() || header.front() != '{') {
    fail(Code::kCorrupt, "{}: the header does not begin with '{{' (not safetensors?)", what);
  }
  std::vector<RawEntry> entries;
  HeaderReader reader(what, entries, metadata_);
  Json::sax_parse(header.begin(), header.end(), &reader);

  tensors_.reserve(entries.size());
  const std::span<const std::byte> data = bytes.subspan(kPrefix + header_bytes);
  for (const RawEntry& raw : entries) tensors_.push_back(checked_tensor(raw, data, what));
  std::stable_sort(tensors_.begin(), tensors_.end(),
                   [](const StoredTensor& a, const StoredTensor& b) { return a.data < b.data; });
  const StoredTensor* last = nullptr;
  for (const StoredTensor& tensor : tensors_) {
    if (tensor.bytes == 0) continue;
    if (last != nullptr && tensor.data < last->data + last->bytes) {
      fail(Code::kCorrupt, "{}: tensors '{}' and '{}' overlap", what,
           printable_name(last->info.name), printable_name(tensor.info.name));
    }
    last = &tensor;
  }
  for (size_t i = 0; i < tensors_.size(); ++i) by_name_.emplace(tensors_[i].info.name, i);
}

const StoredTensor* SafetensorsFile::find(std::string_view name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : &tensors_[it->second];
}

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path,
                                     std::vector<TensorInfo> tensors,
                                     const std::map<std::string, std::string>& metadata,
                                     uint64_t data_alignment)
    : file_(path) {
  OrderedJson header = OrderedJson::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  for (const TensorInfo& tensor : tensors) {
    const uint64_t end = data_bytes_ + tensor.bytes();
    header[tensor.name] = {{"dtype", safetensors_dtype(tensor.dtype)},
                           {"shape", tensor.shape},
                           {"data_offsets", {data_bytes_, end}}};
    data_bytes_ = end;
  }
  std::string text = dump_json(header);
  uint64_t size = sizeof size + text.size();
  size = (size + data_alignment - 1) / data_alignment * data_alignment - sizeof size;
  text.resize(size, ' ');
  file_.write(&size, sizeof size);
  file_.write(text);
  header_bytes_ = sizeof size + size;
}

void SafetensorsWriter::write(const void* data, size_t size) { file_.write(data, size); }

void SafetensorsWriter::commit() {
  ERNE_CHECK(file_.written() == file_bytes(), "{} bytes written, {} promised", file_.written(),
             file_bytes());
  file_.commit();
}

}  // namespace erne
