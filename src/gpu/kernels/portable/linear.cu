// Tier 0 of linear.h: a warp owns 4 rows of the weight and streams them once for up to 8 rows of x.
#include <algorithm>

#include "gpu/kernels/linear.h"
#include "gpu/kernels/portable/weight_pieces.h"
#include "gpu/rt/gpu.h"

namespace erne::gpu {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / GPU_WARP;
constexpr int kColumns = 4;  // rows of the weight a warp; with SiLU two gates and their ups
constexpr int kRows = 8;     // most rows of x at once

// Rows of x and y that a block works on.
struct Tile {
  WeightData weight;
  int64_t first = 0;  // of y, and of x where rows are not picked
  int64_t rows = 0;
};

GPU_DEVICE Tile dense_tile(const LinearCall& call, const WeightData& weight, int rows) {
  const int64_t first = block_x() * rows;
  return {weight, first, call.m - first < rows ? call.m - first : rows};
}

// The block_x()-th piece of at most `rows` slots of one expert; none are left for the last blocks.
GPU_DEVICE Tile expert_tile(const ExpertCall& experts, int rows) {
  GPU_SHARED int32_t found[3];
  if (thread_index() == 0) {
    int64_t before = 0;
    found[2] = 0;
    for (int32_t e = 0; e < experts.num_experts; ++e) {
      const int32_t begin = experts.expert_start[e];
      const int32_t count = experts.expert_start[e + 1] - begin;
      const int64_t tiles = (count + rows - 1) / rows;
      if (block_x() < before + tiles) {
        const auto skip = static_cast<int32_t>((block_x() - before) * rows);
        found[0] = e;
        found[1] = begin + skip;
        found[2] = count - skip < rows ? count - skip : rows;
        break;
      }
      before += tiles;
    }
  }
  block_sync();
  if (found[2] == 0) return {};
  return {experts.experts[found[0]], found[1], found[2]};
}

GPU_DEVICE void store(const LinearCall& call, int64_t row, int64_t column, float value) {
  const int64_t width = call.finish == Finish::kSiluMul ? call.shape.n / 2 : call.shape.n;
  const int64_t at = row * width + column;
  if (call.finish == Finish::kAdd) {
    static_cast<float*>(call.y)[at] += value;
  } else if (call.y_bf16) {
    static_cast<bf16*>(call.y)[at] = to_bf16(value);
  } else {
    static_cast<float*>(call.y)[at] = value;
  }
}

// The weight's row that stands in place c of a warp's four.
GPU_DEVICE int64_t weight_row(const LinearCall& call, int64_t unit, int c) {
  if (call.finish != Finish::kSiluMul) return unit * kColumns + c;
  const int64_t pair = unit * (kColumns / 2) + c % (kColumns / 2);
  return c < kColumns / 2 ? pair : call.shape.n / 2 + pair;
}

template <typename X>
GPU_DEVICE const X* input_row(const LinearCall& call, const ExpertCall& experts, int64_t slot) {
  const int64_t row = experts.slot_token != nullptr ? experts.slot_token[slot] : slot;
  return static_cast<const X*>(call.x) + row * call.shape.k;
}

// sums[r][c] += the lane's pieces of weight row c times row r of x.
template <WeightType kType, typename X, int kMost>
GPU_DEVICE void multiply(const WeightShape& shape, const uint8_t* const (&weights)[kColumns],
                         const int64_t (&rows_of_weight)[kColumns], const uint8_t* base,
                         const X* const (&x_rows)[kMost], int64_t rows,
                         float (&sums)[kMost][kColumns]) {
  constexpr int kPiece = static_cast<int>(piece_values(kType));
  constexpr int kWidth = decode_width(kType);
  constexpr bool kCoded = kType != WeightType::kF32 && kType != WeightType::kBF16;
  const bool wide = shape.k * static_cast<int64_t>(sizeof(X)) % 16 == 0;
  const float offset = kType == WeightType::kInt4 && !shape.has_min ? -8.0F : 0.0F;
  for (int64_t at = int64_t{lane_index()} * kPiece; at < shape.k; at += GPU_WARP * kPiece) {
    Raw16 raw[kColumns];
    float scale[kColumns];
    float min[kColumns];
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      raw[c] = load16(weights[c] + at / kPiece * 16);
      if constexpr (kCoded) {
        const int64_t index = rows_of_weight[c] * shape.groups + at / shape.group;
        scale[c] = load_scale(base + shape.scales_offset, shape.scale_type, index);
        min[c] = shape.has_min ? load_scale(base + shape.mins_offset, shape.scale_type, index)
                               : offset * scale[c];
      }
    }
#pragma unroll
    for (int part = 0; part < kPiece / kWidth; ++part) {
      float w[kColumns][kWidth];
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        decode<kType>(raw[c], part, w[c]);
        if constexpr (kCoded) {
#pragma unroll
          for (int i = 0; i < kWidth; ++i) w[c][i] = gpu_fma(w[c][i], scale[c], min[c]);
        }
      }
#pragma unroll
      for (int r = 0; r < kMost; ++r) {
        if (r >= rows) continue;
        float x[kWidth];
        load_inputs<kWidth>(x_rows[r], at + part * kWidth, shape.k, wide, x);
#pragma unroll
        for (int c = 0; c < kColumns; ++c) {
#pragma unroll
          for (int i = 0; i < kWidth; ++i) sums[r][c] = gpu_fma(w[c][i], x[i], sums[r][c]);
        }
      }
    }
  }
}

GPU_DEVICE float silu(float x) { return x / (1.0F + gpu_exp(-x)); }

// Bias and epilogue of row `row`; every lane has the four sums.
GPU_DEVICE void finish_row(const LinearCall& call, const float* bias, int64_t row, int64_t unit,
                           const float (&sums)[kColumns]) {
  float value[kColumns];
#pragma unroll
  for (int c = 0; c < kColumns; ++c) {
    const int64_t n = weight_row(call, unit, c);
    value[c] = sums[c] + (bias != nullptr && n < call.shape.n ? bias[n] : 0.0F);
  }
  if (call.finish == Finish::kSiluMul) {
#pragma unroll
    for (int p = 0; p < kColumns / 2; ++p) {
      const int64_t column = unit * (kColumns / 2) + p;
      if (lane_index() == p && column < call.shape.n / 2)
        store(call, row, column, silu(value[p]) * value[p + kColumns / 2]);
    }
    return;
  }
#pragma unroll
  for (int c = 0; c < kColumns; ++c) {
    const int64_t column = unit * kColumns + c;
    if (lane_index() == c && column < call.shape.n) store(call, row, column, value[c]);
  }
}

template <WeightType kType, typename X, int kMost>
GPU_KERNEL linear_kernel(LinearCall call, WeightData weight, ExpertCall experts) {
  const Tile tile =
      experts.num_experts > 0 ? expert_tile(experts, kMost) : dense_tile(call, weight, kMost);
  const int64_t unit = block_y() * kWarps + warp_index();
  if (tile.rows == 0 || weight_row(call, unit, 0) >= call.shape.n) return;

  const uint8_t* weights[kColumns];
  int64_t rows_of_weight[kColumns];
#pragma unroll
  for (int c = 0; c < kColumns; ++c) {
    const int64_t n = weight_row(call, unit, c);
    rows_of_weight[c] = n < call.shape.n ? n : call.shape.n - 1;
    weights[c] = tile.weight.data + rows_of_weight[c] * call.shape.row_bytes;
  }
  const X* x_rows[kMost];
#pragma unroll
  for (int r = 0; r < kMost; ++r)
    x_rows[r] = input_row<X>(call, experts, tile.first + (r < tile.rows ? r : 0));
  float sums[kMost][kColumns] = {};
  multiply<kType, X, kMost>(call.shape, weights, rows_of_weight, tile.weight.data, x_rows,
                            tile.rows, sums);
#pragma unroll
  for (int r = 0; r < kMost; ++r) {
    if (r >= tile.rows) continue;
#pragma unroll
    for (int c = 0; c < kColumns; ++c) sums[r][c] = warp_sum(sums[r][c]);
    finish_row(call, tile.weight.bias, tile.first + r, unit, sums[r]);
  }
}

template <WeightType kType, typename X>
void start(Stream stream, const LinearCall& call, const WeightData& weight,
           const ExpertCall& experts) {
  const int64_t units = (call.shape.n + kColumns - 1) / kColumns;
  const int64_t most_rows = experts.num_experts > 0 ? experts.slots : call.m;
  Grid grid{most_rows, (units + kWarps - 1) / kWarps, 1};
  if (most_rows <= 1) {
    launch(stream, linear_kernel<kType, X, 1>, grid, kThreads, call, weight, experts);
    return;
  }
  // Every expert may have one tile that is not full.
  grid.x = experts.num_experts > 0
               ? std::min(experts.slots, experts.slots / kRows + experts.num_experts)
               : (call.m + kRows - 1) / kRows;
  launch(stream, linear_kernel<kType, X, kRows>, grid, kThreads, call, weight, experts);
}

void start(Stream stream, const LinearCall& call, const WeightData& weight,
           const ExpertCall& experts) {
  switch (call.shape.type) {
    case WeightType::kF32:
      return start<WeightType::kF32, float>(stream, call, weight, experts);
    case WeightType::kBF16:
      return start<WeightType::kBF16, bf16>(stream, call, weight, experts);
    case WeightType::kInt8:
      return call.x_bf16 ? start<WeightType::kInt8, bf16>(stream, call, weight, experts)
                         : start<WeightType::kInt8, float>(stream, call, weight, experts);
    case WeightType::kInt4:
      return call.x_bf16 ? start<WeightType::kInt4, bf16>(stream, call, weight, experts)
                         : start<WeightType::kInt4, float>(stream, call, weight, experts);
    case WeightType::kFp8:
      return call.x_bf16 ? start<WeightType::kFp8, bf16>(stream, call, weight, experts)
                         : start<WeightType::kFp8, float>(stream, call, weight, experts);
  }
}

}  // namespace

void run_linear(Stream stream, const LinearCall& call, const WeightData& weight) {
  start(stream, call, weight, {});
}

void run_expert_linear(Stream stream, const LinearCall& call, const ExpertCall& experts) {
  start(stream, call, {}, experts);
}

}  // namespace erne::gpu
