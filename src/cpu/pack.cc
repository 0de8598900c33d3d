#include "cpu/pack.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/error.h"
#include "cpu/split.h"

namespace erne::cpu {
namespace {

int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

struct Source {
  const MatrixView* view;
  int64_t row;
};

/// Which source row is row `n` of the stacked blocks.
Source find_row(std::span<const MatrixView> blocks, int64_t n) {
  for (const MatrixView& block : blocks) {
    if (n < block.rows) return {&block, n};
    n -= block.rows;
  }
  return {nullptr, 0};
}

bool holds_bf16(DType dtype) { return dtype == DType::kBF16 || dtype == DType::kU16; }

/// One row of a panel: group g of the row goes to dst[g * panel * group].
template <typename T>
void scatter_row(const T* src, int64_t k, const WeightLayout& layout, T* dst) {
  const int64_t group = layout.k_group;
  const int64_t step = layout.panel * group;
  const int64_t whole = k / group;
  if (group == 2) {
    for (int64_t g = 0; g < whole; ++g) std::memcpy(dst + g * step, src + g * 2, 2 * sizeof(T));
  } else {
    for (int64_t g = 0; g < whole; ++g)
      std::memcpy(dst + g * step, src + g * group, static_cast<size_t>(group) * sizeof(T));
  }
  for (int64_t i = whole * group; i < k; ++i) dst[whole * step + i - whole * group] = src[i];
}

template <typename T>
void pack_panel(std::span<const MatrixView> blocks, const WeightLayout& layout, int64_t first_row,
                int64_t rows, T* dst, std::vector<float>& row_f32, std::vector<T>& row) {
  for (int64_t r = 0; r < rows; ++r) {
    const Source source = find_row(blocks, first_row + r);
    const MatrixView& view = *source.view;
    const auto k = static_cast<size_t>(view.cols);
    if (sizeof(T) == 2 && holds_bf16(view.dtype) && view.col_stride == 1) {
      const auto* start = static_cast<const uint8_t*>(view.data) + source.row * view.row_stride * 2;
      std::memcpy(row.data(), start, k * 2);
    } else {
      read_row_f32(view, source.row, row_f32.data());
      convert_from_f32(row_f32.data(), sizeof(T) == 2 ? DType::kBF16 : DType::kF32, row.data(), k);
    }
    scatter_row(row.data(), view.cols, layout, dst + r * layout.k_group);
  }
}

template <typename T>
void pack(std::span<const MatrixView> blocks, const WeightLayout& layout, LinearKind kind,
          ThreadPool& pool, T* dst) {
  const int64_t k = blocks[0].cols;
  int64_t n = 0;
  for (const MatrixView& block : blocks) n += block.rows;
  const int64_t panel_size = round_up(k, layout.k_align) * layout.panel;
  const int64_t parts = kind == LinearKind::kGateUp ? 2 : 1;
  const int64_t columns = n / parts;
  each_own_unit(pool, linear_units(layout, n, kind), [&](int64_t begin, int64_t end) {
    std::vector<float> row_f32(static_cast<size_t>(k));
    std::vector<T> row(static_cast<size_t>(k));
    for (int64_t p = begin * parts; p < end * parts; ++p) {
      const int64_t first = p / parts * layout.panel;
      const int64_t rows = std::min<int64_t>(layout.panel, columns - first);
      pack_panel(blocks, layout, p % parts * columns + first, rows, dst + p * panel_size, row_f32,
                 row);
    }
  });
}

}  // namespace

std::string layout_name(const WeightLayout& layout) {
  return fmt::format("cpu{}/panel {}/group {}/align {}/offset {}", kPackVersion, layout.panel,
                     layout.k_group, layout.k_align, layout.int8_offset);
}

int64_t linear_units(const WeightLayout& layout, int64_t n, LinearKind kind) {
  const int64_t columns = kind == LinearKind::kGateUp ? n / 2 : n;
  return (columns + layout.panel - 1) / layout.panel;
}

size_t packed_bytes(const WeightLayout& layout, int64_t n, int64_t k, DType dtype,
                    LinearKind kind) {
  const int64_t panels = linear_units(layout, n, kind) * (kind == LinearKind::kGateUp ? 2 : 1);
  return static_cast<size_t>(panels * layout.panel * round_up(k, layout.k_align)) *
         dtype_bytes(dtype);
}

void pack_weight(std::span<const MatrixView> blocks, const WeightLayout& layout, DType dtype,
                 LinearKind kind, ThreadPool& pool, void* dst) {
  if (dtype == DType::kBF16) {
    pack(blocks, layout, kind, pool, static_cast<bf16*>(dst));
  } else {
    pack(blocks, layout, kind, pool, static_cast<float*>(dst));
  }
}

}  // namespace erne::cpu
