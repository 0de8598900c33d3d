// 8-bit floats (spec quantization.md 7): e4m3fn (bias 7, largest 448, no infinity, NaN 0x7F and
// 0xFF) and e5m2 (bias 15, largest 57344). Weights as e4m3fn codes with scales per 128 x 128 block,
// row or tensor; activations per 1 x 128.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <memory>

#include "tensor/code_rows.h"
#include "tensor/tensor.h"

namespace erne {

enum class Fp8Type : uint8_t { kE4m3, kE5m2 };

constexpr float fp8_max(Fp8Type type) { return type == Fp8Type::kE4m3 ? 448.0F : 57344.0F; }

/// Nearest code, ties to the even code; beyond the largest finite value that value, signed
/// infinities too; NaN becomes 0x7F with its sign.
constexpr uint8_t fp8_encode(float x, Fp8Type type = Fp8Type::kE4m3) {
  if (type == Fp8Type::kE4m3) return to_f8e4m3(x).bits;
  constexpr int kDropped = 21;      // mantissa bits of float that the code lacks
  constexpr float kMagic = 0x1p7F;  // its last bit is the smallest code's value
  const auto bits = std::bit_cast<uint32_t>(x);
  const auto sign = static_cast<uint8_t>(bits >> 24 & 0x80U);
  const float magnitude = std::bit_cast<float>(bits & 0x7FFFFFFFU);
  const float a = magnitude < fp8_max(type) ? magnitude : fp8_max(type);
  const auto b = std::bit_cast<uint32_t>(a);
  const uint32_t half = (1U << (kDropped - 1)) - 1U + (b >> kDropped & 1U);
  const uint32_t normal = ((b + half) >> kDropped) - (112U << 2);
  const uint32_t subnormal = std::bit_cast<uint32_t>(a + kMagic) - std::bit_cast<uint32_t>(kMagic);
  uint32_t code = a < 0x1p-14F ? subnormal : normal;
  code = (bits & 0x7FFFFFFFU) > 0x7F800000U ? 0x7FU : code;
  return static_cast<uint8_t>(sign | code);
}

/// The value of every code.
constexpr std::array<float, 256> fp8_table(Fp8Type type) {
  const int mantissa_bits = type == Fp8Type::kE4m3 ? 3 : 2;
  const int exponents = type == Fp8Type::kE4m3 ? 16 : 32;
  const int bias = type == Fp8Type::kE4m3 ? 7 : 15;
  std::array<float, 256> values{};
  for (int code = 0; code < 256; ++code) {
    const int exponent = code >> mantissa_bits & (exponents - 1);
    const int mantissa = code & ((1 << mantissa_bits) - 1);
    float value = static_cast<float>(exponent == 0 ? mantissa : mantissa + (1 << mantissa_bits));
    for (int e = (exponent == 0 ? 1 : exponent) - bias - mantissa_bits; e != 0; e += e < 0 ? 1 : -1)
      value = e < 0 ? value / 2 : value * 2;
    const bool last = exponent == exponents - 1;
    if (type == Fp8Type::kE4m3 && (code & 0x7F) == 0x7F) value = std::bit_cast<float>(0x7FC00000U);
    if (type == Fp8Type::kE5m2 && last)
      value = std::bit_cast<float>(mantissa == 0 ? 0x7F800000U : 0x7FC00000U);
    values[static_cast<size_t>(code)] = (code & 0x80) != 0 ? -value : value;
  }
  return values;
}

inline constexpr std::array<float, 256> kFp8E4m3 = fp8_table(Fp8Type::kE4m3);
inline constexpr std::array<float, 256> kFp8E5m2 = fp8_table(Fp8Type::kE5m2);

constexpr float fp8_decode(uint8_t code, Fp8Type type = Fp8Type::kE4m3) {
  return type == Fp8Type::kE4m3 ? kFp8E4m3[code] : kFp8E5m2[code];
}

enum class Fp8Scaling : uint8_t {
  kBlock,   ///< 128 x 128 (block_wise_fp8); edges use the partial block
  kRow,     ///< per output row (wfp8afp8)
  kTensor,  ///< one scale
};

/// Weights [rows, cols] as e4m3fn codes; scale = absmax / 448 in f32 (absmax below 2^-100: 1).
/// Block scales are expanded to groups of 128. Blocks and tensors are scanned once here; rows are
/// encoded when they are read. A scale over NaN or infinity is NaN.
std::unique_ptr<CodeRows> fp8_rows(const MatrixView& weights, Fp8Scaling scaling);

/// Tensor-wise with rotation (FP8-QAT, spec 7.3): codes of H^T W / s over blocks of `rotation`
/// inputs and the scale s / rotation, so that the values times the rotated input x H are the
/// product. Throws Error{kInvalidArgument} unless rotation is a power of two that divides cols.
std::unique_ptr<CodeRows> fp8_rotated_rows(const MatrixView& weights, int32_t rotation);

/// Dynamic activations: every 128 of x[cols] (the last run may be short) have the scale
/// max(absmax, 1e-4) / 448. scales: [ceil(cols / 128)].
void fp8_activation(const float* x, int64_t cols, uint8_t* codes, float* scales);

}  // namespace erne
