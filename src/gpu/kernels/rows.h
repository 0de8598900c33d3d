// Operations on rows by themselves: embedding, RMS norm, the experts' weighted sum.
#pragma once

#include <cstdint>

#include "gpu/rt/runtime.h"
#include "tensor/dtype.h"

namespace erne::gpu {

struct EmbedCall {
  const void* table = nullptr;  ///< [V, width] of table_type: f32, bf16 or f16
  DType table_type = DType::kF32;
  const int32_t* ids = nullptr;  ///< [rows]
  int64_t rows = 0;
  int64_t width = 0;
  float* x = nullptr;  ///< [rows, width]
};
void run_embed(Stream stream, const EmbedCall& call);

struct NormCall {
  const float* x = nullptr;         ///< [.., width]
  const int32_t* picked = nullptr;  ///< [rows] rows of x, or null for all
  const float* w = nullptr;         ///< [width]
  float eps = 0;
  int64_t rows = 0;
  int64_t width = 0;
  void* y = nullptr;  ///< [rows, width]
  bool y_bf16 = false;
};
void run_rms_norm(Stream stream, const NormCall& call);

struct CombineCall {
  const float* y = nullptr;          ///< [rows * top_k, width], grouped by expert
  const int32_t* slot_of = nullptr;  ///< [rows, top_k]
  const float* weights = nullptr;    ///< [rows, top_k]
  int64_t rows = 0;
  int64_t top_k = 0;
  int64_t width = 0;
  float* x = nullptr;  ///< [rows, width]
};
void run_combine(Stream stream, const CombineCall& call);

}  // namespace erne::gpu
