#include "model/stored_codes.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/thread_pool.h"
#include "model/stored_ccq.h"

namespace erne {
namespace {

// Codes are computed and written in pieces of about this size.
constexpr int64_t kChunkBytes = int64_t{16} << 20;

DType code_dtype(CodeType type) {
  switch (type) {
    case CodeType::kInt8:
      return DType::kI8;
    case CodeType::kInt4:
      return DType::kU8;
    case CodeType::kFp8:
    case CodeType::kCcq25:
    case CodeType::kCcq2:
      break;
  }
  return DType::kF8E4M3;
}

// Codes and scales in mapped files.
class StoredCodes final : public CodeRows {
 public:
  StoredCodes(CodeFormat format, int64_t rows, int64_t cols, const std::byte* codes,
              const std::byte* scales, const std::byte* mins, float input_absmax)
      : CodeRows(format, rows, cols),
        codes_(codes),
        scales_(scales),
        mins_(mins),
        input_absmax_(input_absmax) {}

  float input_absmax() const override { return input_absmax_; }

  void read(int64_t row, int8_t* codes, float* scales, float* mins) const override {
    const bool packed = format().type == CodeType::kInt4;
    const int64_t row_bytes = packed ? (cols() + 1) / 2 : cols();
    const std::byte* src = codes_ + row * row_bytes;
    if (packed) {
      unpack(src, codes);
    } else {
      std::copy_n(reinterpret_cast<const int8_t*>(src), cols(), codes);
    }
    const auto groups = static_cast<size_t>(format().groups(cols()));
    const size_t offset = static_cast<size_t>(row) * groups * dtype_bytes(format().scale_type);
    convert_to_f32(scales_ + offset, format().scale_type, scales, groups);
    if (format().has_min) convert_to_f32(mins_ + offset, format().scale_type, mins, groups);
  }

 private:
  void unpack(const std::byte* src, int8_t* codes) const {
    // Without mins the codes are signed four-bit numbers.
    const int flip = format().has_min ? 0 : 8;
    for (int64_t i = 0; i < cols(); ++i) {
      const int nibble = std::to_integer<int>(src[i / 2]) >> (i % 2 * 4) & 15;
      codes[i] = static_cast<int8_t>((nibble ^ flip) - flip);
    }
  }

  const std::byte* codes_;
  const std::byte* scales_;
  const std::byte* mins_;
  float input_absmax_;
};

std::optional<CodeType> code_type(DType dtype) {
  switch (dtype) {
    case DType::kI8:
      return CodeType::kInt8;
    case DType::kU8:
      return CodeType::kInt4;
    case DType::kF8E4M3:
      return CodeType::kFp8;
    default:
      return std::nullopt;
  }
}

[[noreturn]] void corrupt(const SourceTensor& source, const std::string& cause) {
  fail(Code::kCorrupt, "{}: tensor '{}' {}", source.file->string(),
       printable_name(source.stored->info.name), cause);
}

bool is_matrix(const TensorInfo& info, int64_t rows) {
  return info.shape.size() == 2 && info.shape[0] == rows;
}

// The group size that gives this number of scales; they tell each other apart for every width.
int32_t find_group(const SourceTensor& scales, int64_t cols, int64_t rows) {
  const TensorInfo& info = scales.stored->info;
  if (is_matrix(info, rows)) {
    for (const int32_t group : {0, 32, 64, 128}) {
      if (CodeFormat{.group = group}.groups(cols) == info.shape[1]) return group;
    }
  }
  corrupt(scales,
          fmt::format("has shape {}; a weight of [{}, {}] has [{}, 1], or a scale for every 32, 64 "
                      "or 128 columns",
                      info.shape_text(), rows, cols, rows));
}

bool wants_inputs(const CodeFormat& format) {
  return format.rotation > 1 || format.inputs != Inputs::kFull;
}

// What NAME.inputs says.
void read_inputs(const SourceTensor& source, int64_t cols, CodeFormat& format) {
  const TensorInfo& info = source.stored->info;
  if (info.dtype != DType::kI32 || info.shape != std::vector<int64_t>{2})
    corrupt(source,
            fmt::format("is {} {}; int32 [2] is valid", dtype_name(info.dtype), info.shape_text()));
  std::array<int32_t, 2> values;
  std::memcpy(values.data(), source.stored->data, sizeof(values));
  const auto [rotation, inputs] = values;
  const bool whole_rows = format.type != CodeType::kFp8 && format.group == 0 && !format.has_min;
  if (rotation < 1 || !std::has_single_bit(static_cast<uint32_t>(rotation)) || cols % rotation != 0)
    corrupt(source,
            fmt::format("rotates {} inputs in blocks of {}; powers of two that divide their "
                        "number are valid",
                        cols, rotation));
  if (inputs < 0 || inputs > static_cast<int32_t>(whole_rows ? Inputs::kInt8Row : Inputs::kInt8))
    corrupt(source,
            fmt::format("rounds the inputs by rule {}, which such weights have not", inputs));
  format.rotation = rotation;
  format.inputs = static_cast<Inputs>(inputs);
}

float read_absmax(const SourceTensor& source, const CodeFormat& format) {
  const TensorInfo& info = source.stored->info;
  float absmax = 0;
  if (info.dtype == DType::kF32 && info.shape == std::vector<int64_t>{1})
    std::memcpy(&absmax, source.stored->data, sizeof(absmax));
  if (absmax >= 0x1p-96F && absmax < 0x1p96F && format.inputs == Inputs::kInt8Row) return absmax;
  corrupt(source, "is not the range of inputs with one scale: float32 [1], positive");
}

int64_t code_row_bytes(const CodeFormat& format, int64_t cols) {
  return format.type == CodeType::kInt4 ? (cols + 1) / 2 : cols;
}

void store_codes(const CodeFormat& format, const std::vector<int8_t>& codes, std::byte* dst) {
  if (format.type != CodeType::kInt4) {
    std::transform(codes.begin(), codes.end(), dst,
                   [](int8_t code) { return static_cast<std::byte>(code); });
    return;
  }
  for (size_t i = 0; i < codes.size(); i += 2) {
    const int low = codes[i] & 15;
    const int high = i + 1 < codes.size() ? codes[i + 1] & 15 : 0;
    dst[i / 2] = static_cast<std::byte>(low | high << 4);
  }
}

}  // namespace

const SourceTensor& StoredCodeParts::any() const {
  for (const auto* part :
       {&codes, &scales, &mins, &inputs, &input_absmax, &super, &code_scale, &code_zp}) {
    if (*part) return **part;
  }
  ERNE_CHECK(false, "a weight without parts");
}

std::optional<SourceTensor> StoredCodeParts::*find_part(std::string_view& name) {
  using Part = std::optional<SourceTensor> StoredCodeParts::*;
  constexpr std::array<std::pair<std::string_view, Part>, 7> kSuffixes{
      {{kScaleSuffix, &StoredCodeParts::scales},
       {kMinSuffix, &StoredCodeParts::mins},
       {kInputsSuffix, &StoredCodeParts::inputs},
       {kInputAbsmaxSuffix, &StoredCodeParts::input_absmax},
       {kSuperSuffix, &StoredCodeParts::super},
       {kCodeScaleSuffix, &StoredCodeParts::code_scale},
       {kCodeZpSuffix, &StoredCodeParts::code_zp}}};
  for (const auto& [suffix, part] : kSuffixes) {
    if (!name.ends_with(suffix)) continue;
    name.remove_suffix(suffix.size());
    return part;
  }
  return nullptr;
}

bool holds_codes(DType dtype) { return code_type(dtype).has_value(); }

std::vector<TensorInfo> code_infos(const std::string& name, const CodeRows& rows) {
  const CodeFormat& format = rows.format();
  if (is_ccq(format.type)) return ccq_infos(name, rows);
  const std::vector<int64_t> scales = {rows.rows(), format.groups(rows.cols())};
  std::vector<TensorInfo> infos = {
      {name, code_dtype(format.type), {rows.rows(), code_row_bytes(format, rows.cols())}},
      {fmt::format("{}{}", name, kScaleSuffix), format.scale_type, scales}};
  if (format.has_min)
    infos.push_back({fmt::format("{}{}", name, kMinSuffix), format.scale_type, scales});
  if (wants_inputs(format))
    infos.push_back({fmt::format("{}{}", name, kInputsSuffix), DType::kI32, {2}});
  if (rows.input_absmax() > 0)
    infos.push_back({fmt::format("{}{}", name, kInputAbsmaxSuffix), DType::kF32, {1}});
  return infos;
}

void write_codes(const CodeRows& rows, ThreadPool& pool, SafetensorsWriter& writer,
                 const RowObserver& observer) {
  const CodeFormat& format = rows.format();
  if (is_ccq(format.type)) return write_ccq(rows, pool, writer, observer);
  const int64_t cols = rows.cols();
  const int64_t groups = format.groups(cols);
  const int64_t row_bytes = code_row_bytes(format, cols);
  std::vector<float> scales(static_cast<size_t>(rows.rows() * groups));
  std::vector<float> mins(format.has_min ? scales.size() : size_t{0});
  const int64_t step = std::clamp<int64_t>(kChunkBytes / cols, 1, rows.rows());
  std::vector<std::byte> chunk(static_cast<size_t>(step * row_bytes));
  for (int64_t first = 0; first < rows.rows(); first += step) {
    const int64_t count = std::min(step, rows.rows() - first);
    pool.parallel_for(count, 1, [&](int64_t begin, int64_t end, int) {
      std::vector<int8_t> codes(static_cast<size_t>(cols));
      for (int64_t r = first + begin; r < first + end; ++r) {
        float* row_scales = scales.data() + r * groups;
        float* row_mins = format.has_min ? mins.data() + r * groups : nullptr;
        rows.read(r, codes.data(), row_scales, row_mins);
        store_codes(format, codes, chunk.data() + (r - first) * row_bytes);
        if (observer) observer(r, codes, row_scales, row_mins);
      }
    });
    writer.write(chunk.data(), static_cast<size_t>(count * row_bytes));
  }
  for (const std::vector<float>* values : {&scales, &mins}) {
    std::vector<std::byte> bytes(values->size() * dtype_bytes(format.scale_type));
    convert_from_f32(values->data(), format.scale_type, bytes.data(), values->size());
    writer.write(bytes.data(), bytes.size());
  }
  const std::array<int32_t, 2> inputs{format.rotation, static_cast<int32_t>(format.inputs)};
  if (wants_inputs(format)) writer.write(inputs.data(), sizeof(inputs));
  const float absmax = rows.input_absmax();
  if (absmax > 0) writer.write(&absmax, sizeof(absmax));
}

std::shared_ptr<const CodeRows> open_codes(const StoredCodeParts& parts,
                                           const ExpectedTensor& wanted) {
  const SourceTensor& codes = *parts.codes;
  if (parts.super) return open_ccq(parts, wanted);
  const TensorInfo& info = codes.stored->info;
  CodeFormat format;
  format.type = *code_type(info.dtype);
  const int64_t width = format.type == CodeType::kInt4 ? (wanted.cols + 1) / 2 : wanted.cols;
  if (!is_matrix(info, wanted.rows) || info.shape[1] != width) {
    corrupt(codes, fmt::format("has shape {}, config.json asks for [{}, {}]", info.shape_text(),
                               wanted.rows, width));
  }
  if (!parts.scales)
    corrupt(codes, fmt::format("holds codes, but there is no '{}.scale'", wanted.name));
  const TensorInfo& scales = parts.scales->stored->info;
  format.group = find_group(*parts.scales, wanted.cols, wanted.rows);
  format.scale_type = scales.dtype;
  if (scales.dtype != DType::kF32 && scales.dtype != DType::kBF16 && scales.dtype != DType::kF16) {
    corrupt(*parts.scales, fmt::format("has dtype {}; float32, bfloat16 and float16 are valid",
                                       dtype_name(scales.dtype)));
  }
  format.has_min = parts.mins.has_value();
  if (format.has_min) {
    const TensorInfo& mins = parts.mins->stored->info;
    if (mins.shape != scales.shape || mins.dtype != scales.dtype || format.type == CodeType::kFp8) {
      corrupt(*parts.mins, "does not match its scales in shape and dtype, or belongs to fp8 codes");
    }
  }
  if (parts.code_scale || parts.code_zp)
    corrupt(parts.code_scale ? *parts.code_scale : *parts.code_zp, "needs a .super beside it");
  if (parts.inputs) read_inputs(*parts.inputs, wanted.cols, format);
  const float absmax = parts.input_absmax ? read_absmax(*parts.input_absmax, format) : 0;
  return std::make_shared<StoredCodes>(format, wanted.rows, wanted.cols, codes.stored->data,
                                       parts.scales->stored->data,
                                       format.has_min ? parts.mins->stored->data : nullptr, absmax);
}

}  // namespace erne
