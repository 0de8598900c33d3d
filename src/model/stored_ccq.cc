#include "model/stored_ccq.h"

#include <cstring>

#include "base/error.h"
#include "base/thread_pool.h"
#include "quant/ccq.h"

namespace erne {
namespace {

// Bytes of the elements of a row's codes: words of 16 bits, or bytes.
int64_t element_bytes(CodeType type) { return type == CodeType::kCcq25 ? 2 : 1; }

// Elements of NAME in a row, without local scales.
int64_t code_elements(CodeType type, int64_t cols) {
  return (cols + kCcqGroup - 1) / kCcqGroup * (type == CodeType::kCcq25 ? 10 : 16);
}

RawTensor raw(const std::optional<SourceTensor>& source, const ExpectedTensor& wanted,
              const char* part) {
  if (!source)
    fail(Code::kCorrupt, "tensor '{}' is missing beside its 2-bit codes",
         fmt::format("{}.{}", wanted.name, part));
  const StoredTensor& stored = *source->stored;
  return {fmt::format("{}: tensor '{}'", source->file->string(), printable_name(stored.info.name)),
          stored.info.dtype,
          stored.info.shape,
          {stored.data, static_cast<size_t>(stored.bytes)}};
}

}  // namespace

std::vector<TensorInfo> ccq_infos(const std::string& name, const CodeRows& rows) {
  const CodeType type = rows.format().type;
  const int64_t n = rows.rows();
  const auto part = [&](std::string_view suffix, DType dtype, std::vector<int64_t> shape) {
    return TensorInfo{fmt::format("{}{}", name, suffix), dtype, std::move(shape)};
  };
  const int64_t codes = code_elements(type, rows.cols());
  if (type == CodeType::kCcq25)
    return {part("", DType::kU16, {codes, n}), part(kSuperSuffix, DType::kBF16, {n})};
  return {part("", DType::kU8, {codes, n}),
          part(kScaleSuffix, DType::kU8, {ccq_row_bytes(type, rows.cols()) - codes, n}),
          part(kSuperSuffix, DType::kBF16, {n}), part(kCodeScaleSuffix, DType::kF32, {n}),
          part(kCodeZpSuffix, DType::kF32, {n})};
}

void write_ccq(const CodeRows& rows, ThreadPool& pool, SafetensorsWriter& writer,
               const RowObserver& observer) {
  const CodeType type = rows.format().type;
  const int64_t n = rows.rows();
  const int64_t cols = rows.cols();
  const int64_t size = element_bytes(type);
  const int64_t row_bytes = ccq_row_bytes(type, cols);
  const auto count = static_cast<size_t>(n);
  std::vector<std::byte> all(static_cast<size_t>(row_bytes * n));  // [element][row]
  std::vector<bf16> super(count);
  std::vector<float> code_scale(count);
  std::vector<float> code_zp(count);
  pool.parallel_for(n, 1, [&](int64_t begin, int64_t end, int) {
    std::vector<uint8_t> row(static_cast<size_t>(row_bytes));
    std::vector<int8_t> codes(static_cast<size_t>(cols));
    std::vector<float> scales(static_cast<size_t>(rows.format().groups(cols)));
    for (int64_t r = begin; r < end; ++r) {
      const CcqConstants constants = rows.read_ccq(r, row.data());
      for (int64_t i = 0; i < row_bytes / size; ++i)
        std::memcpy(all.data() + (i * n + r) * size, row.data() + i * size,
                    static_cast<size_t>(size));
      super[static_cast<size_t>(r)] = to_bf16(constants.super);
      code_scale[static_cast<size_t>(r)] = constants.code_scale;
      code_zp[static_cast<size_t>(r)] = constants.code_zp;
      if (!observer) continue;
      ccq_decode_row(type, row.data(), constants, cols, codes.data(), scales.data());
      observer(r, codes, scales.data(), nullptr);
    }
  });
  writer.write(all.data(), all.size());  // codes, and behind them local scales
  writer.write(super.data(), count * sizeof(bf16));
  if (type == CodeType::kCcq25) return;
  writer.write(code_scale.data(), count * sizeof(float));
  writer.write(code_zp.data(), count * sizeof(float));
}

std::shared_ptr<const CodeRows> open_ccq(const StoredCodeParts& parts,
                                         const ExpectedTensor& wanted) {
  if (parts.mins || parts.inputs)
    fail(Code::kCorrupt, "{}: tensor '{}' belongs to no 2-bit weight",
         (parts.mins ? parts.mins : parts.inputs)->file->string(),
         printable_name((parts.mins ? parts.mins : parts.inputs)->stored->info.name));
  const RawTensor codes = raw(parts.codes, wanted, "weight");
  const RawTensor super = raw(parts.super, wanted, "super");
  if (codes.dtype == DType::kU16) return ccq25_rows({codes, super}, wanted.rows, wanted.cols);
  return ccq2_rows(
      {codes, raw(parts.scales, wanted, "scale"), raw(parts.code_scale, wanted, "code_scale"),
       raw(parts.code_zp, wanted, "code_zp"), super},
      wanted.rows, wanted.cols);
}

}  // namespace erne
