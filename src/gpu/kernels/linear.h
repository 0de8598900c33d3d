// Linears with weights of any stored type, one or a group of experts: y = epilogue(x w^T + bias).
//
// A weight is rows of k values, each row padded to whole 16-byte pieces (a piece: 4 f32, 8 bf16, 16
// int8 or fp8, 32 int4), padding coded as 0 (int4: as 8). Lane l of a warp sums the pieces l, l +
// GPU_WARP, … of a row in ascending order, and the lanes are added as a tree: an order that depends
// on k alone, so a row's result has the same bits in any batch.
#pragma once

#include <cstdint>

#include "gpu/rt/runtime.h"
#include "tensor/dtype.h"

namespace erne::gpu {

enum class WeightType : uint8_t { kF32, kBF16, kInt8, kInt4, kFp8 };

/// Values in 16 bytes.
constexpr int64_t piece_values(WeightType type) {
  switch (type) {
    case WeightType::kF32:
      return 4;
    case WeightType::kBF16:
      return 8;
    case WeightType::kInt4:
      return 32;
    default:
      return 16;
  }
}

/// What all experts of a group have in common.
struct WeightShape {
  WeightType type = WeightType::kF32;
  int64_t n = 0;
  int64_t k = 0;
  int64_t row_bytes = 0;
  // Of coded types: value = scale * code (+ min); int4 codes are stored plus 8 unless has_min.
  int64_t group = 0;  ///< columns that share a scale
  int64_t groups = 0;
  DType scale_type = DType::kF32;
  bool has_min = false;
  int64_t scales_offset = 0;  ///< bytes from the weight's start; [n, groups]
  int64_t mins_offset = 0;
};

/// Addresses of one weight in device memory.
struct WeightData {
  const uint8_t* data = nullptr;
  const float* bias = nullptr;  ///< [n], or null
};

enum class Finish : uint8_t { kStore, kAdd, kSiluMul };

struct LinearCall {
  WeightShape shape;
  const void* x = nullptr;  ///< [m, k], bf16 or f32
  bool x_bf16 = false;
  int64_t m = 0;
  Finish finish = Finish::kStore;
  void* y = nullptr;  ///< [m, n], or [m, n / 2] with kSiluMul: rows 0 … n/2 are gates, the rest ups
  bool y_bf16 = false;
};

/// Rows of x by expert. x has m rows with slot_token, else a row for each slot.
struct ExpertCall {
  const WeightData* experts = nullptr;
  const int32_t* expert_start = nullptr;  ///< [num_experts + 1]
  const int32_t* slot_token = nullptr;    ///< null: slot s takes row s
  int64_t num_experts = 0;
  int64_t slots = 0;
};

void run_linear(Stream stream, const LinearCall& call, const WeightData& weight);
void run_expert_linear(Stream stream, const LinearCall& call, const ExpertCall& experts);

}  // namespace erne::gpu
