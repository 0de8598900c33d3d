// Tier 0 of attention: a block takes up to 8 query rows that share a kv head (a token's group, or
// two tokens of a small group) through chunks of 256 positions. One pass over K gives a chunk's
// scores, one over V its weighted sum; both read the cache once for all rows.
#include <cmath>

#include "gpu/kernels/attention.h"
#include "gpu/kernels/portable/kv_rows.h"
#include "gpu/rt/gpu.h"

namespace erne::gpu {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / GPU_WARP;
constexpr int kRows = 8;
constexpr int kWidth = 8;  // elements of V that a thread sums

// Softmax state of a row over some positions: out = sum of exp(s - max) v; sum is 0 where nothing
// was attended.
struct Softmax {
  float max, sum;
};
struct Factors {
  float into, next;
};

/// a := a followed by b; out_a * into + out_b * next is the merged sum. The one place where chunks
/// are put together.
GPU_DEVICE Factors merge(Softmax& a, const Softmax& b) {
  if (b.sum == 0.0F) return {1.0F, 0.0F};
  if (a.sum == 0.0F) {
    a = b;
    return {0.0F, 1.0F};
  }
  const float max = b.max > a.max ? b.max : a.max;
  const Factors f{gpu_exp(a.max - max), gpu_exp(b.max - max)};
  a.sum = gpu_fma(b.sum, f.next, a.sum * f.into);
  a.max = max;
  return f;
}

// Query rows of a block: token first_token + r / heads, head first_head + r % heads.
struct Tile {
  int64_t sequence = 0;
  int64_t first_token = 0;
  int32_t first_position = 0;
  int32_t first_head = 0;
  int32_t heads = 0;
  int32_t rows = 0;
  int32_t kv_head = 0;

  GPU_DEVICE int64_t token(int r) const { return first_token + r / heads; }
  GPU_DEVICE int32_t head(int r) const { return first_head + r % heads; }
  GPU_DEVICE int32_t position(int r) const { return first_position + r / heads; }
};

// Groups of more than kRows heads are cut into parts; block_y() counts parts of kv heads. Tokens
// that another one's tile holds get no rows.
GPU_DEVICE Tile find_tile(const AttentionCall& call) {
  const int32_t group = call.num_heads / call.kv.kv_heads;
  const int32_t parts = (group + kRows - 1) / kRows;
  Tile tile;
  tile.kv_head = static_cast<int32_t>(block_y()) / parts;
  const int32_t skip = static_cast<int32_t>(block_y()) % parts * kRows;
  tile.first_head = tile.kv_head * group + skip;
  tile.heads = group - skip < kRows ? group - skip : kRows;
  const int32_t most_tokens = group <= kRows ? kRows / group : 1;
  tile.sequence = call.step.sequence_of[block_x()];
  const int32_t begin = call.step.query_start[tile.sequence];
  const int32_t end = call.step.query_start[tile.sequence + 1];
  const auto at = static_cast<int32_t>(block_x());
  if ((at - begin) % most_tokens != 0) return tile;
  tile.first_token = at;
  tile.first_position = call.step.positions[at];
  tile.rows = (end - at < most_tokens ? end - at : most_tokens) * tile.heads;
  return tile;
}

// What the threads of a block share.
struct Shared {
  float q[kRows][kMostHeadDim];
  float p[kRows][kChunk];          // scores, then probabilities times the scale of V
  float out[kRows][kMostHeadDim];  // the chunk's sum
  float all[kRows][kMostHeadDim];  // of all chunks so far
  Softmax chunk[kRows];
  Softmax total[kRows];
};

template <typename T>
GPU_DEVICE void load_queries(const AttentionCall& call, const Tile& tile, Shared& s) {
  const int64_t width = int64_t{call.num_heads + 2 * call.kv.kv_heads} * call.kv.head_dim;
  for (int r = 0; r < tile.rows; ++r) {
    const T* q = static_cast<const T*>(call.qkv) + tile.token(r) * width +
                 int64_t{tile.head(r)} * call.kv.head_dim;
    for (int d = thread_index(); d < call.kv.row; d += kThreads)
      s.q[r][d] = d < call.kv.head_dim ? load_number(q + d) : 0.0F;
  }
}

GPU_DEVICE int64_t row_at(const AttentionCall& call, const Tile& tile, Part part,
                          int32_t position) {
  const int64_t block =
      call.step.block_table[tile.sequence * call.step.max_blocks + position / call.kv.block_tokens];
  return kv_row(call.kv, block, part, tile.kv_head, position % call.kv.block_tokens);
}

// s.p[r][i] = scaled product of row r and the key at first + i, -inf beyond the row's own position.
template <KvType kType>
GPU_DEVICE void score_keys(const AttentionCall& call, const Tile& tile, int32_t first,
                           int32_t count, Shared& s) {
  constexpr WeightType kPiece = piece_type<kType>();
  constexpr int kDecoded = decode_width(kPiece);
  constexpr int kParts = static_cast<int>(piece_values(kPiece)) / kDecoded;
  for (int i = thread_index(); i < count; i += kThreads) {
    const int64_t row = row_at(call, tile, Part::kKey, first + i);
    const uint8_t* key = call.kv.data + row * call.kv.row * element_bytes(kType);
    float dot[kRows] = {};
    for (int d = 0; d < call.kv.row; d += kParts * kDecoded) {
      const Raw16 raw = load16(key + d * element_bytes(kType));
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        float k[kDecoded];
        decode<kPiece>(raw, part, k);
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          if (r >= tile.rows) continue;
#pragma unroll
          for (int j = 0; j < kDecoded; ++j)
            dot[r] = gpu_fma(s.q[r][d + part * kDecoded + j], k[j], dot[r]);
        }
      }
    }
    const float scale = coded(kType) ? call.scale * to_f32(call.kv.scales[row]) : call.scale;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (r < tile.rows) s.p[r][i] = first + i <= tile.position(r) ? dot[r] * scale : -INFINITY;
    }
  }
}

// Scores to probabilities of the chunk, a warp a row.
template <KvType kType>
GPU_DEVICE void softmax(const AttentionCall& call, const Tile& tile, int32_t first, int32_t count,
                        Shared& s) {
  for (int r = warp_index(); r < tile.rows; r += kWarps) {
    float max = -INFINITY;
    for (int i = lane_index(); i < count; i += GPU_WARP) max = s.p[r][i] > max ? s.p[r][i] : max;
    max = warp_max(max);
    float sum = 0;
    for (int i = lane_index(); i < count; i += GPU_WARP) {
      float p = first + i <= tile.position(r) ? gpu_exp(s.p[r][i] - max) : 0.0F;
      sum += p;
      if constexpr (coded(kType))
        p *= to_f32(call.kv.scales[row_at(call, tile, Part::kValue, first + i)]);
      s.p[r][i] = p;
    }
    sum = warp_sum(sum);
    if (lane_index() == 0) s.chunk[r] = {max, sum};
  }
}

// Eight elements of a value's row from element `d`.
template <KvType kType>
GPU_DEVICE void load_values(const uint8_t* row, int d, float (&v)[kWidth]) {
  const uint8_t* at = row + d * element_bytes(kType);
  if constexpr (kType == KvType::kF32) {
    load_inputs<kWidth>(reinterpret_cast<const float*>(at), 0, kWidth, true, v);
  } else if constexpr (kType == KvType::kBF16) {
    decode<WeightType::kBF16>(load16(at), 0, v);
  } else {
    Raw16 raw{};
    raw.word[0] = reinterpret_cast<const uint32_t*>(at)[0];
    raw.word[1] = reinterpret_cast<const uint32_t*>(at)[1];
    decode<piece_type<kType>()>(raw, 0, v);
  }
}

// s.out[r][:] = sum of p[r][i] v[i]: threads of one group share a position, group g takes i = g, g
// + groups, …, and the groups are added in their order.
template <KvType kType>
GPU_DEVICE void sum_values(const AttentionCall& call, const Tile& tile, int32_t first,
                           int32_t count, Shared& s) {
  const int lanes = call.kv.row / kWidth;
  const int groups = kThreads / lanes;
  const int group = thread_index() / lanes;
  const int d = thread_index() % lanes * kWidth;
  float sums[kRows][kWidth] = {};
  for (int i = group; i < count && group < groups; i += groups) {
    const int64_t row = row_at(call, tile, Part::kValue, first + i);
    float v[kWidth];
    load_values<kType>(call.kv.data + row * call.kv.row * element_bytes(kType), d, v);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      // Beyond the row's position a value counts for nothing, not even if it is infinite.
      if (r >= tile.rows || first + i > tile.position(r)) continue;
#pragma unroll
      for (int j = 0; j < kWidth; ++j) sums[r][j] = gpu_fma(s.p[r][i], v[j], sums[r][j]);
    }
  }
  for (int g = 0; g < groups; ++g) {
    if (g == group) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        if (r >= tile.rows) continue;
#pragma unroll
        for (int j = 0; j < kWidth; ++j)
          s.out[r][d + j] = g == 0 ? sums[r][j] : s.out[r][d + j] + sums[r][j];
      }
    }
    block_sync();
  }
}

GPU_DEVICE int64_t partial_at(const AttentionCall& call, int64_t token, int64_t head,
                              int64_t chunk) {
  return ((token * call.num_heads + head) * call.chunks + chunk) * (call.kv.row + 2);
}

template <typename T>
GPU_DEVICE void write_out(const AttentionCall& call, int64_t token, int64_t head, int d,
                          float value) {
  T* out = static_cast<T*>(call.out) + (token * call.num_heads + head) * call.kv.head_dim;
  if (d < call.kv.head_dim) store_number(out + d, value);
}

// The chunk joins those before it.
GPU_DEVICE void add_chunk(const AttentionCall& call, const Tile& tile, Shared& s) {
  for (int r = 0; r < tile.rows; ++r) {
    Softmax total = s.total[r];
    const Factors f = merge(total, s.chunk[r]);
    for (int d = thread_index(); d < call.kv.row; d += kThreads)
      s.all[r][d] = gpu_fma(s.out[r][d], f.next, s.all[r][d] * f.into);
    block_sync();
    if (thread_index() == 0) s.total[r] = total;
  }
}

GPU_DEVICE void keep_chunk(const AttentionCall& call, const Tile& tile, int64_t chunk, Shared& s) {
  for (int r = 0; r < tile.rows; ++r) {
    float* to = call.partials + partial_at(call, tile.token(r), tile.head(r), chunk);
    for (int d = thread_index(); d < call.kv.row; d += kThreads) to[d] = s.out[r][d];
    if (thread_index() == 0) {
      to[call.kv.row] = s.chunk[r].max;
      to[call.kv.row + 1] = s.chunk[r].sum;
    }
  }
}

template <typename T, KvType kType>
GPU_KERNEL attention_kernel(AttentionCall call) {
  GPU_SHARED Shared s;
  const Tile tile = find_tile(call);
  if (tile.rows == 0) return;
  const int32_t end = tile.position(tile.rows - 1) + 1;
  const bool split = call.partials != nullptr;
  const auto first_chunk = static_cast<int32_t>(block_z());
  const int32_t end_chunk = split ? first_chunk + 1 : (end + kChunk - 1) / kChunk;
  if (first_chunk * kChunk >= end) return;
  load_queries<T>(call, tile, s);
  for (int r = 0; r < tile.rows && !split; ++r) {
    for (int d = thread_index(); d < call.kv.row; d += kThreads) s.all[r][d] = 0.0F;
    if (thread_index() == 0) s.total[r] = {-INFINITY, 0.0F};
  }
  block_sync();
  for (int32_t chunk = first_chunk; chunk < end_chunk; ++chunk) {
    const int32_t first = chunk * kChunk;
    const int32_t count = end - first < kChunk ? end - first : kChunk;
    score_keys<kType>(call, tile, first, count, s);
    block_sync();
    softmax<kType>(call, tile, first, count, s);
    block_sync();
    sum_values<kType>(call, tile, first, count, s);
    if (split) return keep_chunk(call, tile, chunk, s);
    add_chunk(call, tile, s);
    block_sync();
  }
  for (int r = 0; r < tile.rows; ++r) {
    for (int d = thread_index(); d < call.kv.row; d += kThreads)
      write_out<T>(call, tile.token(r), tile.head(r), d, s.all[r][d] / s.total[r].sum);
  }
}

// The chunks of one token and head, in their order.
template <typename T>
GPU_KERNEL merge_kernel(AttentionCall call) {
  const int64_t token = block_x();
  const int64_t head = block_y();
  const int64_t chunks = call.step.positions[token] / kChunk + 1;
  for (int d = thread_index(); d < call.kv.row; d += kThreads) {
    Softmax total{-INFINITY, 0.0F};
    float sum = 0.0F;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      const float* part = call.partials + partial_at(call, token, head, chunk);
      const Factors f = merge(total, {part[call.kv.row], part[call.kv.row + 1]});
      sum = gpu_fma(part[d], f.next, sum * f.into);
    }
    write_out<T>(call, token, head, d, sum / total.sum);
  }
}

template <typename T, KvType kType>
void start(Stream stream, const AttentionCall& call) {
  const int32_t group = call.num_heads / call.kv.kv_heads;
  const int64_t parts = int64_t{(group + kRows - 1) / kRows} * call.kv.kv_heads;
  const bool split = call.partials != nullptr;
  launch(stream, attention_kernel<T, kType>, Grid{call.step.tokens, parts, split ? call.chunks : 1},
         kThreads, call);
  if (split)
    launch(stream, merge_kernel<T>, Grid{call.step.tokens, call.num_heads, 1}, kThreads, call);
}

template <typename T>
void start(Stream stream, const AttentionCall& call) {
  switch (call.kv.type) {
    case KvType::kF32:
      if constexpr (sizeof(T) == 4) start<T, KvType::kF32>(stream, call);
      return;
    case KvType::kBF16:
      return start<T, KvType::kBF16>(stream, call);
    case KvType::kInt8:
      return start<T, KvType::kInt8>(stream, call);
    case KvType::kFp8:
      return start<T, KvType::kFp8>(stream, call);
  }
}

}  // namespace

void run_attention(Stream stream, const AttentionCall& call) {
  if (call.bf16_rows) {
    start<bf16>(stream, call);
  } else {
    start<float>(stream, call);
  }
}

}  // namespace erne::gpu
