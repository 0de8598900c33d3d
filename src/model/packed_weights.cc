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
constexpr int64_t kMaxSide = int64_t{1} << 32;  // of a matrix: products of two stay in range

constexpr std::array<std::pair<CodeType, std::string_view>, 3> kCodeNames{
    {{CodeType::kInt8, "int8"}, {CodeType::kInt4, "int4"}, {CodeType::kFp8, "fp8"}}};
constexpr std::array<DType, 3> kScaleTypes{DType::kF32, DType::kBF16, DType::kF16};

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> words;
  while (true) {
    const size_t end = text.find(separator);
    words.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return words;
    text.remove_prefix(end + 1);
  }
}

// "int4:32:min:bfloat16", "int8:0:float32"
std::string format_text(const CodeFormat& format) {
  std::string_view name;
  for (const auto& [type, word] : kCodeNames) {
    if (type == format.type) name = word;
  }
  return fmt::format("{}:{}{}:{}", name, format.group, format.has_min ? ":min" : "",
                     dtype_name(format.scale_type));
}

// Reads the file's metadata; `file_` names it in errors.
class Reader {
 public:
  explicit Reader(const SafetensorsFile& file) : file_(file) {}

  PackedWeights read() {
    check_version();
    PackedWeights result;
    result.dtype = dtype();
    result.inputs = word("inputs", {"full", "int8"}) == 1 ? Inputs::kInt8 : Inputs::kFull;
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

  size_t word(const std::string& key, std::vector<std::string_view> words) const {
    const auto it = std::find(words.begin(), words.end(), value(key));
    if (it == words.end()) {
      corrupt(key, fmt::format("is '{}'; {} are valid", printable_name(value(key)),
                               fmt::join(words, ", ")));
    }
    return static_cast<size_t>(it - words.begin());
  }

  DType dtype() const {
    return word("dtype", {"float32", "bfloat16"}) == 0 ? DType::kF32 : DType::kBF16;
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
    const std::vector<std::string_view> words = split(text, ':');
    const auto type = std::find_if(kCodeNames.begin(), kCodeNames.end(),
                                   [&](const auto& name) { return name.second == words.front(); });
    const auto scales = std::find_if(kScaleTypes.begin(), kScaleTypes.end(), [&](DType dtype) {
      return dtype_name(dtype) == words.back();
    });
    const bool has_min = words.size() == 4 && words[2] == "min";
    if (type == kCodeNames.end() || scales == kScaleTypes.end() ||
        words.size() != (has_min ? 4U : 3U)) {
      corrupt(tensor.info.name,
              fmt::format("names no format of codes: '{}'", printable_name(text)));
    }
    const int64_t group = number(tensor, words[1], 0, 128);
    return CodeFormat{type->first, static_cast<int32_t>(group), has_min, *scales};
  }

  PackedWeight linear(const StoredTensor& tensor, DType dtype) const {
    const std::string& name = tensor.info.name;
    const std::vector<std::string_view> words = split(value(name), '|');
    if (words.size() != 5) corrupt(name, "is not 'rows|columns|kind|codes|layout'");
    PackedWeight w;
    w.n = number(tensor, words[0], 1, kMaxSide);
    w.k = number(tensor, words[1], 1, kMaxSide);
    if (words[2] != "plain" && words[2] != "gate_up") corrupt(name, "has no valid kind");
    w.kind = words[2] == "plain" ? LinearKind::kPlain : LinearKind::kGateUp;
    w.codes = codes(tensor, words[3]);
    w.dtype = dtype;
    w.layout = printable_name(words[4]);
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
    const std::byte* begin = data.empty() ? tensor.data : data.data();
    data = {begin, static_cast<size_t>(tensor.data + tensor.bytes - begin)};
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
  return fmt::format("{}|{}|{}|{}|{}", w.n, w.k,
                     w.kind == LinearKind::kGateUp ? "gate_up" : "plain",
                     w.codes ? format_text(*w.codes) : "numbers", w.layout);
}

PackedWeights read_packed_weights(const SafetensorsFile& file) { return Reader(file).read(); }

}  // namespace erne
