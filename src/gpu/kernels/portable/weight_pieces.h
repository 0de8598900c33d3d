// Sixteen bytes of a weight row, as loaded, to values.
#pragma once

#include "gpu/kernels/linear.h"
#include "gpu/rt/gpu.h"

namespace erne::gpu {

/// Values that are decoded at once.
constexpr int decode_width(WeightType type) { return type == WeightType::kF32 ? 4 : 8; }

GPU_DEVICE float low_bf16(uint32_t word) { return std::bit_cast<float>(word << 16); }
GPU_DEVICE float high_bf16(uint32_t word) { return std::bit_cast<float>(word & 0xFFFF0000U); }

/// 2^23 + code as a float, less 2^23: exact for codes below 2^23, and cheaper than a conversion.
GPU_DEVICE float small_integer(uint32_t code) {
  return std::bit_cast<float>(0x4B000000U | code) - 8388608.0F;
}

/// Part `part` of a piece: decode_width(type) codes or values.
template <WeightType kType>
GPU_DEVICE void decode(const Raw16& raw, int part, float (&values)[decode_width(kType)]) {
  if constexpr (kType == WeightType::kF32) {
#pragma unroll
    for (int i = 0; i < 4; ++i) values[i] = std::bit_cast<float>(raw.word[i]);
  } else if constexpr (kType == WeightType::kBF16) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      values[2 * i] = low_bf16(raw.word[i]);
      values[2 * i + 1] = high_bf16(raw.word[i]);
    }
  } else if constexpr (kType == WeightType::kInt4) {
#pragma unroll
    for (int i = 0; i < 8; ++i) values[i] = small_integer(raw.word[part] >> (4 * i) & 15U);
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const uint32_t byte = raw.word[2 * part + i / 4] >> (8 * (i % 4)) & 255U;
      if constexpr (kType == WeightType::kInt8) {
        values[i] = small_integer(byte ^ 128U) - 128.0F;
      } else {
        values[i] = to_f32(f8e4m3{static_cast<uint8_t>(byte)});
      }
    }
  }
}

GPU_DEVICE float load_scale(const uint8_t* scales, DType type, int64_t index) {
  if (type == DType::kF32) return reinterpret_cast<const float*>(scales)[index];
  const uint16_t bits = reinterpret_cast<const uint16_t*>(scales)[index];
  return type == DType::kBF16 ? to_f32(bf16{bits}) : to_f32(f16{bits});
}

/// kWidth values of x from column `column`; those beyond k are 0. `wide`: rows start at multiples
/// of 16 bytes.
template <int kWidth>
GPU_DEVICE void load_inputs(const bf16* row, int64_t column, int64_t k, bool wide,
                            float (&x)[kWidth]) {
  static_assert(kWidth == 8);
  if (wide && column + kWidth <= k) {
    const Raw16 raw = load16(row + column);
    decode<WeightType::kBF16>(raw, 0, x);
    return;
  }
#pragma unroll
  for (int i = 0; i < kWidth; ++i) x[i] = column + i < k ? to_f32(row[column + i]) : 0.0F;
}
template <int kWidth>
GPU_DEVICE void load_inputs(const float* row, int64_t column, int64_t k, bool wide,
                            float (&x)[kWidth]) {
  if (wide && column + kWidth <= k) {
#pragma unroll
    for (int part = 0; part < kWidth / 4; ++part) {
      const Raw16 raw = load16(row + column + 4 * part);
#pragma unroll
      for (int i = 0; i < 4; ++i) x[4 * part + i] = std::bit_cast<float>(raw.word[i]);
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kWidth; ++i) x[i] = column + i < k ? row[column + i] : 0.0F;
}

}  // namespace erne::gpu
