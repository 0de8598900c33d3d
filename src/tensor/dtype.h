// Element types and the conversions between them. bfloat16 and float16 are plain 16-bit structs:
// g++ 12 has no <stdfloat>.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace erne {

enum class DType : uint8_t {
  kF32,
  kF16,
  kBF16,
  kF64,
  kI64,
  kI32,
  kI16,
  kI8,
  kU8,
  kU16,
  kU32,
  kU64,
  kBool,
  kF8E4M3
};

/// Bytes of one element.
size_t dtype_bytes(DType dtype);
/// "float32", "bfloat16", …
std::string_view dtype_name(DType dtype);

struct bf16 {
  uint16_t bits;
};
struct f16 {
  uint16_t bits;
};
/// e4m3fn: exponent bias 7, largest 448, no infinity, 0x7F and 0xFF are NaN.
struct f8e4m3 {
  uint8_t bits;
};

constexpr float to_f32(float x) { return x; }
constexpr float to_f32(bf16 x) { return std::bit_cast<float>(uint32_t{x.bits} << 16); }
/// IEEE 754 binary16, subnormals, infinities and NaN included.
constexpr float to_f32(f16 x) {
  const uint32_t sign = (uint32_t{x.bits} & 0x8000U) << 16;
  const uint32_t exponent = (uint32_t{x.bits} >> 10) & 0x1FU;
  const uint32_t mantissa = x.bits & 0x3FFU;
  if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24, exact in float
    const float magnitude = static_cast<float>(mantissa) * 0x1.0p-24F;
    return sign != 0 ? -magnitude : magnitude;
  }
  const uint32_t bits =
      exponent == 31 ? 0x7F800000U | mantissa << 13 : (exponent + 112) << 23 | mantissa << 13;
  return std::bit_cast<float>(sign | bits);
}

constexpr float to_f32(f8e4m3 x) {
  const uint32_t sign = (uint32_t{x.bits} & 0x80U) << 24;
  const uint32_t rest = x.bits & 0x7FU;
  if (rest == 0x7FU) return std::bit_cast<float>(sign | 0x7FC00000U);
  // Shifted to the place of a float's exponent it is short of 2^120, subnormals included.
  return std::bit_cast<float>(sign | rest << 20) * 0x1.0p120F;
}

/// Round to nearest, ties to even; NaN stays NaN.
constexpr bf16 to_bf16(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return {static_cast<uint16_t>(bits >> 16 | 0x40U)};
  return {static_cast<uint16_t>((bits + 0x7FFFU + (bits >> 16 & 1U)) >> 16)};
}

/// Round to nearest, ties to even; beyond 448 it is +-448; NaN stays NaN.
constexpr f8e4m3 to_f8e4m3(float x) {
  constexpr float kMagic = 0x1p14F;  // its last bit is worth 2^-9, the smallest code
  const auto bits = std::bit_cast<uint32_t>(x);
  const float magnitude = std::bit_cast<float>(bits & 0x7FFFFFFFU);
  const float a = magnitude < 448.0F ? magnitude : 448.0F;
  const auto b = std::bit_cast<uint32_t>(a);
  const uint32_t normal = ((b + 0x7FFFFU + (b >> 20 & 1U)) >> 20) - (120U << 3);
  const uint32_t subnormal = std::bit_cast<uint32_t>(a + kMagic) - std::bit_cast<uint32_t>(kMagic);
  const uint32_t code = a < 0x1p-6F ? subnormal : normal;
  const bool nan = (bits & 0x7FFFFFFFU) > 0x7F800000U;
  return {static_cast<uint8_t>((bits >> 24 & 0x80U) | (nan ? 0x7FU : code))};
}

/// Round to nearest, ties to even; overflow to infinity; NaN stays NaN.
f16 to_f16(float x);

/// n elements of src (kF32, kF16, kBF16, kF64, kF8E4M3, or kU16 = bfloat16 bits, as Paddle stores
/// them) to float. src may be unaligned. Throws Error{kUnsupported} for other types.
void convert_to_f32(const void* src, DType dtype, float* dst, size_t n);
/// The reverse, for kF32, kF16, kBF16.
void convert_from_f32(const float* src, DType dtype, void* dst, size_t n);

}  // namespace erne
