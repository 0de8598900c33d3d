#include "model/packed_weights.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>
#include <vector>

#include "base/error.h"

namespace erne {
namespace {

constexpr const char* kFormat = "erne packed weights";
constexpr int64_t kMaxRotation = int64_t{1} << 20;
constexpr float kLeastAbsmax = 0x1p-96F;
constexpr float kMostAbsmax = 0x1p96F;
constexpr int64_t kMaxSide = int64_t{1} << 32;  // of a matrix: products of two stay in range

// The place of a word is the value of the enum.
constexpr std::array<std::string_view, 5> kCodeNames{"int8", "int4", "fp8", "ccq25", "ccq2"};
constexpr std::array<std::string_view, 3> kInputNames{"full", "int8", "int8_row"};
constexpr std::array<DType, 3> kScaleTypes{DType::kF32, DType::kBF16, DType::kF16};
constexpr std::array<DType, 4> kCacheTypes{DType::kF32, DType::kBF16, DType::kI8, DType::kF8E4M3};

std::vector<std::string_view> names(std::span<const DType> types) {
  std::vector<std::string_view> words;
  for (const DType dtype : types) words.push_back(dtype_name(dtype));
  return words;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> words;
  while (true) {
    const size_t end = text.find(separator);
    words.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return words;
    text.remove_prefix(end + 1);
  }
}

std::string format_text(const CodeFormat& format) {
  return fmt::format("{}:{}:{}:{}:{}:{}", kCodeNames.at(static_cast<size_t>(format.type)),
                     format.group, format.has_min ? "min" : "-", dtype_name(format.scale_type),
                     format.rotation, inputs_word(format.inputs));
}

// Reads the file's metadata; `file_` names it in errors.
class Reader {
 public:
  explicit Reader(const SafetensorsFile& file) : file_(file) {}

  PackedWeights read() {
    check_version();
    PackedWeights result;
    result.dtype = dtype();
    result.inputs = static_cast<Inputs>(word("inputs", value("inputs"), kInputNames));
    result.cache_dtype = kCacheTypes[word("cache", value("cache"), names(kCacheTypes))];
    result.flags = printable_name(value("flags"));
    result.source = printable_name(value("source"));
    result.device = printable_name(value("device"));
    for (const StoredTensor& tensor : file_.tensors()) {
      const std::string& name = tensor.info.name;
      if (!name.ends_with(kPackedSuffix)) continue;
      result.linears.emplace(name.substr(0, name.size() - std::string_view(kPackedSuffix).size()),
                             linear(tensor, result.dtype));
      extend(result.data, tensor);
    }
    return result;
  }

 private:
  [[noreturn]] void corrupt(std::string_view key, std::string_view cause) const {
    fail(Code::kCorrupt, "{}: metadata '{}' {}", file_.path().string(), printable_name(key), cause);
  }

  const std::string& value(const std::string& key) const {
    const auto it = file_.metadata().find(key);
    if (it == file_.metadata().end()) corrupt(key, "is missing");
    return it->second;
  }

  // The place of `text`, which stands under `key`, in `words`.
  size_t word(std::string_view key, std::string_view text,
              std::span<const std::string_view> words) const {
    const auto it = std::find(words.begin(), words.end(), text);
    if (it == words.end()) {
      corrupt(key,
              fmt::format("has '{}'; {} are valid", printable_name(text), fmt::join(words, ", ")));
    }
    return static_cast<size_t>(it - words.begin());
  }

  DType dtype() const {
    constexpr std::array<DType, 2> kTypes{DType::kF32, DType::kBF16};
    return kTypes[word("dtype", value("dtype"), names(kTypes))];
  }

  void check_version() const {
    if (value("format") != kFormat) corrupt("format", fmt::format("is not '{}'", kFormat));
    if (value("version") == std::to_string(kPackedVersion)) return;
    fail(
        Code::kUnsupported,
        "{}: packed by another version of erne (format {}, this one reads {}); pack it again: erne "
        "convert --pack MODEL OUT",
        file_.path().string(), printable_name(value("version")), kPackedVersion);
  }

  int64_t number(const StoredTensor& tensor, std::string_view text, int64_t least,
                 int64_t most) const {
    int64_t result = -1;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), result);
    if (error != std::errc() || end != text.data() + text.size() || result < least ||
        result > most) {
      corrupt(tensor.info.name, fmt::format("has '{}' where a number from {} to {} is needed",
                                            printable_name(text), least, most));
    }
    return result;
  }

  std::optional<CodeFormat> codes(const StoredTensor& tensor, std::string_view text) const {
    if (text == "numbers") return std::nullopt;
    const std::string& name = tensor.info.name;
    const std::vector<std::string_view> words = split(text, ':');
    if (words.size() != 6)
      corrupt(name, fmt::format("names no format of codes: '{}'", printable_name(text)));
    constexpr std::array<std::string_view, 2> kMinima{"-", "min"};
    CodeFormat format;
    format.type = static_cast<CodeType>(word(name, words[0], kCodeNames));
    format.group = static_cast<int32_t>(number(tensor, words[1], 0, 128));
    format.has_min = word(name, words[2], kMinima) == 1;
    format.scale_type = kScaleTypes[word(name, words[3], names(kScaleTypes))];
    format.rotation = static_cast<int32_t>(number(tensor, words[4], 1, kMaxRotation));
    format.inputs = static_cast<Inputs>(word(name, words[5], kInputNames));
    return format;
  }

  float absmax(const StoredTensor& tensor, std::string_view text,
               const std::optional<CodeFormat>& codes) const {
    float result = -1;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), result);
    const bool valid = result == 0 || (result >= kLeastAbsmax && result <= kMostAbsmax && codes &&
                                       codes->inputs == Inputs::kInt8Row);
    if (error != std::errc() || end != text.data() + text.size() || !valid) {
      corrupt(tensor.info.name,
              fmt::format("has '{}' as the largest input; 0 is valid, and {} to {} for inputs with "
                          "one scale (int8_row)",
                          printable_name(text), kLeastAbsmax, kMostAbsmax));
    }
    return result;
  }

  PackedWeight linear(const StoredTensor& tensor, DType dtype) const {
    const std::string& name = tensor.info.name;
    const std::vector<std::string_view> words = split(value(name), '|');
    if (words.size() != 6) corrupt(name, "is not 'rows|columns|kind|codes|absmax|layout'");
    PackedWeight w;
    w.n = number(tensor, words[0], 1, kMaxSide);
    w.k = number(tensor, words[1], 1, kMaxSide);
    if (words[2] != "plain" && words[2] != "gate_up") corrupt(name, "has no valid kind");
    w.kind = words[2] == "plain" ? LinearKind::kPlain : LinearKind::kGateUp;
    w.codes = codes(tensor, words[3]);
    w.dtype = dtype;
    w.input_absmax = absmax(tensor, words[4], w.codes);
    w.layout = printable_name(words[5]);
    const auto offset = static_cast<uint64_t>(tensor.data - file_.tensors().front().data);
    const bool aligned = reinterpret_cast<uintptr_t>(tensor.data) % kPackedAlign == 0;
    if (tensor.info.dtype != DType::kU8 || tensor.bytes < kPackedAlign ||
        tensor.bytes % kPackedAlign != 0 || !aligned) {
      fail(Code::kCorrupt,
           "{}: tensor '{}' has {} bytes of {} at offset {}; whole pages of {} bytes are needed",
           file_.path().string(), printable_name(name), tensor.bytes, dtype_name(tensor.info.dtype),
           offset, kPackedAlign);
    }
    w.data = {tensor.data, static_cast<size_t>(tensor.bytes)};
    return w;
  }

  static void extend(std::span<const std::byte>& data, const StoredTensor& tensor) {
    const std::byte* begin = tensor.data;
    const std::byte* end = begin + tensor.bytes;
    if (!data.empty()) {
      begin = std::min(begin, data.data());
      end = std::max(end, data.data() + data.size());
    }
    data = {begin, static_cast<size_t>(end - begin)};
  }

  const SafetensorsFile& file_;
};

}  // namespace

bool PackedWeights::has_codes() const {
  return std::any_of(linears.begin(), linears.end(),
                     [](const auto& entry) { return entry.second.codes.has_value(); });
}

std::string PackedWeights::command() const {
  return fmt::format("erne convert --pack {} OUT {}", source, flags);
}

std::string packed_text(const PackedWeight& w) {
  return fmt::format("{}|{}|{}|{}|{}|{}", w.n, w.k,
                     w.kind == LinearKind::kGateUp ? "gate_up" : "plain",
                     w.codes ? format_text(*w.codes) : "numbers", w.input_absmax, w.layout);
}

std::string_view inputs_word(Inputs inputs) { return kInputNames.at(static_cast<size_t>(inputs)); }

PackedWeights read_packed_weights(const SafetensorsFile& file) { return Reader(file).read(); }

}  // namespace erne
