// The generic table: plain loops, f32 sums in index order. It is the specification that every other
// table is tested against, and what runs on processors without a table of their own.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <span>

#include "cpu/kernels.h"
#include "tensor/dtype.h"

namespace erne::cpu {
namespace {

constexpr int32_t kPanel = 16;
constexpr int32_t kTileRows = 4;

float load(const void* data, bool is_bf16, int64_t i) {
  return is_bf16 ? to_f32(static_cast<const bf16*>(data)[i]) : static_cast<const float*>(data)[i];
}

void store(void* data, bool is_bf16, int64_t i, float value) {
  if (is_bf16) {
    static_cast<bf16*>(data)[i] = to_bf16(value);
  } else {
    static_cast<float*>(data)[i] = value;
  }
}

float silu(float x) { return x / (1.0F + std::exp(-x)); }

/// sums[j] = x . row j of the panel.
template <typename T>
void dot_panel(const T* x, const T* panel, int64_t k, float* sums) {
  for (int32_t j = 0; j < kPanel; ++j) sums[j] = 0;
  for (int64_t i = 0; i < k; ++i) {
    const float value = to_f32(x[i]);
    for (int32_t j = 0; j < kPanel; ++j) sums[j] += value * to_f32(panel[i * kPanel + j]);
  }
}

/// Finishes row r of a unit: sums of its panel, or of its gate and up panels.
void finish(const LinearTask& t, int64_t unit, int64_t r, const float (&sums)[2][kPanel]) {
  const int64_t columns = t.gate_up ? t.n / 2 : t.n;
  for (int64_t j = 0; j < kPanel && unit * kPanel + j < columns; ++j) {
    const int64_t column = unit * kPanel + j;
    const float bias = t.bias != nullptr ? t.bias[column] : 0.0F;
    float value = sums[0][j] + bias;
    if (t.finish == Finish::kSiluMul) {
      value = silu(value) * (sums[1][j] + (t.bias != nullptr ? t.bias[columns + column] : 0.0F));
    }
    const int64_t at = r * t.y_stride + column;
    if (t.finish == Finish::kAdd) value += static_cast<float*>(t.y)[at];
    store(t.y, t.y_bf16, at, value);
  }
}

template <typename T>
void linear(const LinearTask& t, int64_t begin, int64_t end, Scratch) {
  const int64_t panels = t.gate_up ? 2 : 1;
  const auto* w = static_cast<const T*>(t.w);
  for (int64_t unit = begin; unit < end; ++unit) {
    for (int64_t r = 0; r < t.m; ++r) {
      const T* x = static_cast<const T*>(t.x) + (t.rows != nullptr ? t.rows[r] : r) * t.x_stride;
      float sums[2][kPanel];
      for (int64_t p = 0; p < panels; ++p)
        dot_panel(x, w + (unit * panels + p) * kPanel * t.k, t.k, sums[p]);
      finish(t, unit, r, sums);
    }
  }
}

/// Inputs of one row and block of k as integers: x is about scale * q, q in -most ... most. NaN
/// where the block holds an infinity or a NaN; blocks of tiny values are zero.
struct RoundedBlock {
  int32_t q[kInputBlock];
  float scale;
};

RoundedBlock round_block(const LinearTask& t, int64_t at, int64_t count, int32_t max) {
  const auto most = static_cast<float>(max);
  RoundedBlock block = {};
  float largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    const float magnitude = std::fabs(load(t.x, t.x_bf16, at + i));
    if (!std::isfinite(magnitude)) return {{}, NAN};
    largest = magnitude > largest ? magnitude : largest;
  }
  if (largest < kLeastInput) return block;
  block.scale = largest / most;
  const float inverse = most / largest;
  for (int64_t i = 0; i < count; ++i)
    block.q[i] = static_cast<int32_t>(std::lrint(load(t.x, t.x_bf16, at + i) * inverse));
  return block;
}

/// A packed panel of codes.
struct CodePanel {
  const uint8_t* codes;
  const CodeLayout& layout;
  int64_t k;
  bool int4;

  int64_t group_k(int64_t group) const {
    const int64_t left = k - group * layout.group;
    return layout.group == 0 || left < layout.group ? left : layout.group;
  }
  int64_t scale_bytes() const { return layout.scale_type == ScaleType::kF32 ? 4 : 2; }
  int64_t bytes(int64_t group) const {
    return (group_k(group) + 3) / 4 * (int4 ? 2 : 4) * kPanel +
           kPanel * scale_bytes() * (layout.has_min ? 2 : 1);
  }
  int32_t code(int64_t i, int32_t row) const {
    if (!int4) return static_cast<int8_t>(codes[(i / 4 * kPanel + row) * 4 + i % 4]);
    const int32_t pair = codes[(i / 4 * kPanel / 2 + row % (kPanel / 2)) * 4 + i % 4];
    return (row < kPanel / 2 ? pair & 15 : pair >> 4) - (layout.has_min ? 0 : 8);
  }
  /// An e4m3fn code; the four of a group stand as k 0, 2, 1, 3.
  f8e4m3 fp8(int64_t i, int32_t row) const {
    constexpr int64_t kPlace[] = {0, 2, 1, 3};
    return {codes[(i / 4 * kPanel + row) * 4 + kPlace[i % 4]]};
  }
  /// Scale (set 0) or minimum (set 1) of a row in the group at `codes`.
  float scale(int64_t group, int set, int32_t row) const {
    const uint8_t* at = codes + (group_k(group) + 3) / 4 * (int4 ? 2 : 4) * kPanel +
                        (set * kPanel + row) * scale_bytes();
    uint32_t word = 0;
    std::memcpy(&word, at, static_cast<size_t>(scale_bytes()));
    switch (layout.scale_type) {
      case ScaleType::kF32:
        return std::bit_cast<float>(word);
      case ScaleType::kBF16:
        return to_f32(bf16{static_cast<uint16_t>(word)});
      case ScaleType::kF16:
        break;
    }
    return to_f32(f16{static_cast<uint16_t>(word)});
  }
};

/// acc := fma(integer sum, scale of the weight, acc), then with minima fma(minimum, sum of x, acc),
/// for `count` columns of one group of scales, the first of them its column `first`.
void add_group(const int32_t* x, int64_t count, const CodePanel& panel, int64_t group,
               int64_t first, float* acc) {
  int32_t x_sum = 0;
  for (int64_t i = 0; i < count; ++i) x_sum += x[i];
  for (int32_t j = 0; j < kPanel; ++j) {
    int32_t sum = 0;
    for (int64_t i = 0; i < count; ++i) sum += x[i] * panel.code(first + i, j);
    acc[j] = std::fma(static_cast<float>(sum), panel.scale(group, 0, j), acc[j]);
    if (panel.layout.has_min)
      acc[j] = std::fma(panel.scale(group, 1, j), static_cast<float>(x_sum), acc[j]);
  }
}

/// sums[j] = x . row j of the panel: for every block of the inputs acc = 0, its groups of scales in
/// order (add_group), then c = fma(acc, scale of the input, c).
void dot_codes(const LinearTask& t, int64_t x_at, CodePanel panel, int32_t most, float* sums) {
  for (int32_t j = 0; j < kPanel; ++j) sums[j] = 0;
  const int64_t block = input_block(t.codes, most);
  const int64_t group_k = t.codes.group == 0 ? block : t.codes.group;
  for (int64_t begin = 0; begin < t.k; begin += block) {
    const int64_t count = t.k - begin < block ? t.k - begin : block;
    const RoundedBlock x = round_block(t, x_at + begin, count, most);
    float acc[kPanel] = {};
    for (int64_t i = 0; i < count; i += group_k) {
      const int64_t some = count - i < group_k ? count - i : group_k;
      if (t.codes.group == 0) {
        add_group(x.q + i, some, panel, 0, begin, acc);
      } else {
        const int64_t group = (begin + i) / group_k;
        add_group(x.q + i, some, panel, group, 0, acc);
        panel.codes += panel.bytes(group);
      }
    }
    for (int32_t j = 0; j < kPanel; ++j) sums[j] = std::fma(acc[j], x.scale, sums[j]);
  }
}

/// sums[j] = x . row j of the panel: the inputs rounded to bf16, one f32 sum a group of scales,
/// then c = fma(sum, scale, c) group by group.
void dot_fp8(const LinearTask& t, int64_t x_at, CodePanel panel, float* sums) {
  for (int32_t j = 0; j < kPanel; ++j) sums[j] = 0;
  for (int64_t group = 0, begin = 0; begin < t.k; begin += panel.group_k(group++)) {
    for (int32_t j = 0; j < kPanel; ++j) {
      float sum = 0;
      for (int64_t i = 0; i < panel.group_k(group); ++i) {
        sum += to_f32(to_bf16(load(t.x, t.x_bf16, x_at + begin + i))) * to_f32(panel.fp8(i, j));
      }
      sums[j] = std::fma(sum, panel.scale(group, 0, j), sums[j]);
    }
    panel.codes += panel.bytes(group);
  }
}

/// dot(x_at, panel, sums) and what follows the sums, for units [begin, end).
template <class Dot>
void for_code_panels(const LinearTask& t, int64_t begin, int64_t end, bool int4, Dot dot) {
  const int64_t panels = t.gate_up ? 2 : 1;
  CodePanel panel = {static_cast<const uint8_t*>(t.w), t.codes, t.k, int4};
  int64_t panel_bytes = 0;
  const int64_t groups = t.codes.group == 0 ? 1 : (t.k + t.codes.group - 1) / t.codes.group;
  for (int64_t g = 0; g < groups; ++g) panel_bytes += panel.bytes(g);
  for (int64_t unit = begin; unit < end; ++unit) {
    for (int64_t r = 0; r < t.m; ++r) {
      const int64_t x_at = (t.rows != nullptr ? t.rows[r] : r) * t.x_stride;
      float sums[2][kPanel];
      for (int64_t p = 0; p < panels; ++p) {
        panel.codes = static_cast<const uint8_t*>(t.w) + (unit * panels + p) * panel_bytes;
        dot(x_at, panel, sums[p]);
      }
      finish(t, unit, r, sums);
    }
  }
}

template <bool kInt4, int32_t kMost>
void code_linear(const LinearTask& t, int64_t begin, int64_t end, Scratch) {
  for_code_panels(t, begin, end, kInt4, [&](int64_t x_at, const CodePanel& panel, float* sums) {
    dot_codes(t, x_at, panel, kMost, sums);
  });
}

void fp8_linear(const LinearTask& t, int64_t begin, int64_t end, Scratch) {
  for_code_panels(t, begin, end, false, [&](int64_t x_at, const CodePanel& panel, float* sums) {
    dot_fp8(t, x_at, panel, sums);
  });
}

size_t no_scratch(int64_t) { return 0; }
int64_t all_rows(int64_t) { return int64_t{1} << 40; }

template <bool kInt4, int32_t kMost>
constexpr LinearKernel code_kernel() {
  return {{kPanel, 4, 4, 0}, code_linear<kInt4, kMost>, no_scratch, all_rows};
}

constexpr LinearKernel fp8_kernel() {
  return {{kPanel, 4, 4, 0}, fp8_linear, no_scratch, all_rows};
}

#include "cpu/kernels/generic_ccq.inc"
#include "cpu/kernels/generic_row8.inc"

void rms_norm(const float* x, const float* w, float eps, int64_t size, void* y, bool y_bf16) {
  float sum = 0;
  for (int64_t i = 0; i < size; ++i) sum += x[i] * x[i];
  const float scale = 1.0F / std::sqrt(sum / static_cast<float>(size) + eps);
  for (int64_t i = 0; i < size; ++i) store(y, y_bf16, i, x[i] * scale * w[i]);
}

void rotate(void* x, int64_t heads, int64_t half, const float* cos, const float* sin,
            bool is_bf16) {
  for (int64_t h = 0; h < heads; ++h) {
    for (int64_t j = 0; j < half; ++j) {
      const int64_t at = (h * half + j) * 2;
      const float even = load(x, is_bf16, at);
      const float odd = load(x, is_bf16, at + 1);
      store(x, is_bf16, at, even * cos[j] - odd * sin[j]);
      store(x, is_bf16, at + 1, odd * cos[j] + even * sin[j]);
    }
  }
}

/// Start of the head of the block that holds `position`.
const uint8_t* kv_head(const AttentionTask& t, const AttentionTile& tile, int64_t position) {
  return t.cache + tile.blocks[position / t.kv.block_tokens] * t.kv.block_bytes +
         tile.kv_head * t.kv.head_bytes;
}

float load_kv(const uint8_t* data, KvType type, int64_t i) {
  if (type == KvType::kI8) return static_cast<float>(static_cast<int8_t>(data[i]));
  if (type == KvType::kF8) return to_f32(f8e4m3{data[i]});
  return load(data, type == KvType::kBF16, i);
}

/// Scale `i` of a head's scales; 1 where the type has none.
float kv_scale(const KvLayout& kv, const uint8_t* head, int64_t i) {
  return has_scales(kv.type) ? load(head + kv.scales_offset, true, i) : 1.0F;
}

float score(const AttentionTask& t, const AttentionTile& tile, int64_t q_at, int64_t position) {
  const int64_t group = kv_group(t.kv.type);
  const int64_t slot = position % t.kv.block_tokens;
  const uint8_t* k = kv_head(t, tile, position);
  float sum = 0;
  for (int64_t d = 0; d < t.kv.head_dim; ++d) {
    const int64_t row = slot / kKvPanel * (t.kv.key_width / group) + d / group;
    const int64_t at = (row * kKvPanel + slot % kKvPanel) * group + place_in_group(t.kv.type, d);
    sum += load(t.qkv, t.bf16, q_at + d) * load_kv(k, t.kv.type, at);
  }
  return sum * kv_scale(t.kv, k, slot) * t.scale;
}

void attend_chunk(const AttentionTask& t, const AttentionTile& tile, int64_t chunk,
                  AttentionPartial part, Scratch) {
  const int64_t heads_per_kv = t.num_heads / t.kv_heads;
  const int64_t group = kv_group(t.kv.type);
  const int64_t start = chunk * kKvChunk;
  for (int32_t r = 0; r < tile.rows; ++r) {
    const int64_t token = (tile.row + r) / heads_per_kv;
    const int64_t head = tile.kv_head * heads_per_kv + (tile.row + r) % heads_per_kv;
    const int64_t left = tile.first_position + token + 1 - start;
    const int64_t count = left < kKvChunk ? left : kKvChunk;
    float* out = part.out + r * t.kv.v_width;
    for (int32_t d = 0; d < t.kv.v_width; ++d) out[d] = 0;
    part.max[r] = -INFINITY;
    part.sum[r] = 0;
    if (count <= 0) continue;
    float scores[kKvChunk];
    for (int64_t j = 0; j < count; ++j) {
      scores[j] = score(t, tile, (tile.first_token + token) * t.row_stride + head * t.kv.head_dim,
                        start + j);
      part.max[r] = scores[j] > part.max[r] ? scores[j] : part.max[r];
    }
    for (int64_t j = 0; j < count; ++j) {
      const float p = std::exp(scores[j] - part.max[r]);
      part.sum[r] += p;
      const int64_t slot = (start + j) % t.kv.block_tokens;
      const uint8_t* stored = kv_head(t, tile, start + j);
      const uint8_t* v = stored + t.kv.v_offset;
      const float weight = p * kv_scale(t.kv, stored, t.kv.block_tokens + slot);
      for (int64_t d = 0; d < t.kv.head_dim; ++d) {
        const int64_t at =
            (slot / group * t.kv.v_width + d) * group + place_in_group(t.kv.type, slot);
        out[d] += weight * load_kv(v, t.kv.type, at);
      }
    }
  }
}

void merge(AttentionPartial into, AttentionPartial next, int32_t rows, int64_t v_width) {
  for (int32_t r = 0; r < rows; ++r) {
    if (next.sum[r] == 0) continue;
    const float max = into.max[r] > next.max[r] ? into.max[r] : next.max[r];
    const float old_scale = into.sum[r] == 0 ? 0.0F : std::exp(into.max[r] - max);
    const float new_scale = std::exp(next.max[r] - max);
    float* out = into.out + r * v_width;
    for (int64_t d = 0; d < v_width; ++d)
      out[d] = out[d] * old_scale + next.out[r * v_width + d] * new_scale;
    into.sum[r] = into.sum[r] * old_scale + next.sum[r] * new_scale;
    into.max[r] = max;
  }
}

void finish_row(const float* out, float sum, int64_t head_dim, void* y, bool y_bf16) {
  for (int64_t d = 0; d < head_dim; ++d) store(y, y_bf16, d, out[d] / sum);
}

void dot_rows(const float* x, const float* w, int64_t rows, int64_t size, float* y) {
  for (int64_t e = 0; e < rows; ++e) {
    float sum = 0;
    for (int64_t i = 0; i < size; ++i) sum += x[i] * w[e * size + i];
    y[e] = sum;
  }
}

void combine(float* x, const void* y, bool y_bf16, int64_t size, const int32_t* slots,
             const float* weights, int64_t count) {
  for (int64_t i = 0; i < size; ++i) {
    float sum = 0;
    for (int64_t j = 0; j < count; ++j) sum += weights[j] * load(y, y_bf16, slots[j] * size + i);
    x[i] += sum;
  }
}

void peak_f32(int64_t iterations) {
  float sums[kPanel] = {};
  float factor = 0.5F;
  for (int64_t i = 0; i < iterations; ++i) {
    asm volatile("" : "+m"(factor));  // or the loop would be computed at compile time
    for (float& sum : sums) sum += factor * factor;
  }
  asm volatile("" : : "m"(sums));
}

uint64_t read_all(const void* data, int64_t bytes) {
  const auto* words = static_cast<const uint64_t*>(data);
  uint64_t sum = 0;
  for (int64_t i = 0; i < bytes / 8; ++i) sum |= words[i];
  return sum;
}

constexpr Kernels kTable = {
    .name = "generic",
    .linear_f32 = {{kPanel, 1, 1, 0}, linear<float>, no_scratch, all_rows},
    .linear_bf16 = {{kPanel, 1, 1, 0}, linear<bf16>, no_scratch, all_rows},
    .linear_codes = {{code_kernel<false, kMostFull>(), code_kernel<false, kMostInt8>(),
                      row8_kernel<false>()},
                     {code_kernel<true, kMostFull>(), code_kernel<true, kMostInt8>(),
                      row8_kernel<true>()},
                     {fp8_kernel(), fp8_kernel(), fp8_kernel()},
                     {ccq_kernel<false, kMostFull>(), ccq_kernel<false, kMostInt8>(),
                      ccq_kernel<false, kMostInt8>()},
                     {ccq_kernel<true, kMostFull>(), ccq_kernel<true, kMostInt8>(),
                      ccq_kernel<true, kMostInt8>()}},
    .hadamard = hadamard,
    .rms_norm = rms_norm,
    .rotate = rotate,
    .attention_rows = kTileRows,
    .attention_scratch_bytes = no_scratch,
    .attend_f32 = attend_chunk,
    .attend_mixed = attend_chunk,
    .attend_bf16 = attend_chunk,
    .attend_int8 = attend_chunk,
    .merge = merge,
    .finish_row = finish_row,
    .dot_rows = dot_rows,
    .combine = combine,
    .peak_f32 = {peak_f32, kPanel * 2},
    .peak_bf16 = {},
    .peak_int8 = {},
    .read_all = read_all,
};

}  // namespace

const Kernels* generic_kernels() { return &kTable; }

}  // namespace erne::cpu
