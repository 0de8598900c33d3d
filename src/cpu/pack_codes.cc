// Quantised rows into the panels of CodeLayout (kernels.h).
#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "base/error.h"
#include "cpu/pack.h"
#include "cpu/pack_ccq.h"
#include "cpu/split.h"

namespace erne::cpu {
namespace {

/// Byte sizes inside a panel.
struct PanelBytes {
  PanelBytes(const WeightLayout& layout, const CodeFormat& format, int64_t k)
      : code_group(int64_t{layout.panel} * layout.k_group /
                   (format.type == CodeType::kInt4 ? 2 : 1)),
        scales(layout.panel * static_cast<int64_t>(dtype_bytes(format.scale_type))),
        group_k(format.group == 0 ? k : format.group),
        group((group_k + layout.k_group - 1) / layout.k_group * code_group + set(format)),
        panel((k + layout.k_group - 1) / layout.k_group * code_group +
              format.groups(k) * set(format)) {}

  int64_t set(const CodeFormat& format) const { return scales * (format.has_min ? 2 : 1); }

  int64_t code_group;  ///< codes of k_group columns
  int64_t scales;      ///< one scale a row
  int64_t group_k;     ///< columns of a group of scales
  int64_t group;       ///< such a group with scales and minima
  int64_t panel;
};

/// Row `row` of a panel, in pieces as it is read.
class RowPacker {
 public:
  RowPacker(const WeightLayout& layout, const CodeFormat& format, int64_t k)
      : layout_(layout),
        format_(format),
        bytes_(layout, format, k),
        k_(k),
        codes_(static_cast<size_t>(k) + 4),
        scales_(static_cast<size_t>(format.groups(k))),
        minima_(scales_.size()) {}

  int64_t panel_bytes() const { return bytes_.panel; }

  void pack(const CodeRows& source, int64_t source_row, int64_t row, uint8_t* panel) {
    source.read(source_row, codes_.data(), scales_.data(), minima_.data());
    for (int64_t g = 0; g < format_.groups(k_); ++g) {
      const int64_t begin = g * bytes_.group_k;
      const int64_t count = std::min(bytes_.group_k, k_ - begin);
      uint8_t* scales = pack_group(begin, count, row, panel + g * bytes_.group);
      store_scale(has_nan(begin, count) ? std::numeric_limits<float>::quiet_NaN()
                                        : scales_[static_cast<size_t>(g)],
                  row, scales);
      if (format_.has_min)
        store_scale(minima_[static_cast<size_t>(g)], row, scales + bytes_.scales);
    }
  }

 private:
  /// Whether these codes stand for a NaN: kernels need not look for it where its scale is one.
  bool has_nan(int64_t begin, int64_t count) const {
    return format_.type == CodeType::kFp8 &&
           std::any_of(codes_.begin() + begin, codes_.begin() + begin + count,
                       [](int8_t code) { return (code & 0x7F) == 0x7F; });
  }

  /// Codes of columns [begin, begin + count); returns the end of the group's codes.
  uint8_t* pack_group(int64_t begin, int64_t count, int64_t row, uint8_t* dst) {
    const bool int4 = format_.type == CodeType::kInt4;
    const int64_t lanes = int4 ? layout_.panel / 2 : layout_.panel;
    const int shift = row < lanes ? 0 : 4;
    for (int64_t i = 0; i < count; i += 4, dst += bytes_.code_group) {
      uint32_t four = 0;  // the last group's missing codes meet inputs of zero: any value will do
      std::memcpy(&four, codes_.data() + begin + i,
                  static_cast<size_t>(std::min<int64_t>(4, count - i)));
      if (int4) {
        four = (four & 0x0F0F0F0FU) ^ (format_.has_min ? 0U : 0x08080808U);
        four <<= shift;
      } else if (format_.type == CodeType::kFp8) {  // k 0, 2, 1, 3
        four = (four & 0xFF0000FFU) | (four >> 8 & 0xFF00U) | (four << 8 & 0xFF0000U);
      } else if (layout_.int8_offset != 0) {
        four ^= 0x80808080U;
      }
      uint8_t* at = dst + row % lanes * 4;
      uint32_t old;
      std::memcpy(&old, at, 4);
      four |= old;
      std::memcpy(at, &four, 4);
    }
    return dst;
  }

  void store_scale(float value, int64_t row, uint8_t* dst) const {
    const auto size = static_cast<int64_t>(dtype_bytes(format_.scale_type));
    convert_from_f32(&value, format_.scale_type, dst + row * size, 1);
  }

  const WeightLayout& layout_;
  const CodeFormat& format_;
  PanelBytes bytes_;
  int64_t k_;
  std::vector<int8_t> codes_;
  std::vector<float> scales_;
  std::vector<float> minima_;
};

}  // namespace

CodeLayout code_layout(const CodeFormat& format) {
  if (format.group != 0 && format.group != 32 && format.group != 64 && format.group != 128) {
    fail(Code::kUnsupported,
         "quantised weights with groups of {} columns: the CPU takes 32, 64, 128 or whole rows",
         format.group);
  }
  if (is_ccq(format.type)) return {static_cast<int32_t>(kCcqGroup), ScaleType::kF32, false};
  if (format.type == CodeType::kFp8 && format.has_min)
    fail(Code::kUnsupported, "fp8 weights with minima: the CPU takes scales only");
  switch (format.scale_type) {
    case DType::kF32:
      return {format.group, ScaleType::kF32, format.has_min};
    case DType::kBF16:
      return {format.group, ScaleType::kBF16, format.has_min};
    case DType::kF16:
      return {format.group, ScaleType::kF16, format.has_min};
    default:
      fail(Code::kUnsupported, "scales of type {}: the CPU takes float32, bfloat16 and float16",
           dtype_name(format.scale_type));
  }
}

size_t packed_code_bytes(const WeightLayout& layout, int64_t n, int64_t k, const CodeFormat& format,
                         LinearKind kind) {
  const int64_t panels = linear_units(layout, n, kind) * (kind == LinearKind::kGateUp ? 2 : 1);
  return static_cast<size_t>(panels * (is_ccq(format.type) ? ccq_panel_bytes(layout, format.type, k)
                                                           : PanelBytes(layout, format, k).panel));
}

namespace {

template <class Packer, class Format>
void pack_panels(std::span<const CodeRows* const> blocks, const WeightLayout& layout,
                 const Format& format, LinearKind kind, ThreadPool& pool, void* dst) {
  const int64_t parts = kind == LinearKind::kGateUp ? 2 : 1;
  int64_t n = 0;
  for (const CodeRows* block : blocks) n += block->rows();
  const int64_t columns = n / parts;
  each_own_unit(pool, linear_units(layout, n, kind), [&](int64_t begin, int64_t end) {
    Packer packer(layout, format, blocks[0]->cols());
    for (int64_t p = begin * parts; p < end * parts; ++p) {
      uint8_t* panel = static_cast<uint8_t*>(dst) + p * packer.panel_bytes();
      const int64_t first = p / parts * layout.panel;
      const int64_t rows = std::min<int64_t>(layout.panel, columns - first);
      for (int64_t r = 0; r < rows; ++r) {
        int64_t row = p % parts * columns + first + r;
        size_t block = 0;
        while (row >= blocks[block]->rows()) row -= blocks[block++]->rows();
        packer.pack(*blocks[block], row, r, panel);
      }
    }
  });
}

}  // namespace

void pack_code_rows(std::span<const CodeRows* const> blocks, const WeightLayout& layout,
                    LinearKind kind, ThreadPool& pool, void* dst) {
  const CodeFormat& format = blocks[0]->format();
  if (is_ccq(format.type)) {
    pack_panels<CcqPacker>(blocks, layout, format.type, kind, pool, dst);
  } else {
    pack_panels<RowPacker>(blocks, layout, format, kind, pool, dst);
  }
}

}  // namespace erne::cpu
