#include "tensor/dtype.h"

#include <cstring>

#include "base/error.h"

namespace erne {
namespace {

template <typename T>
void widen(const void* src, float* dst, size_t n) {
  const auto* bytes = static_cast<const std::byte*>(src);
  for (size_t i = 0; i < n; ++i) {
    T value;
    std::memcpy(&value, bytes + i * sizeof(T), sizeof(T));
    if constexpr (sizeof(T) == 8) {
      dst[i] = static_cast<float>(value);
    } else {
      dst[i] = to_f32(value);
    }
  }
}

}  // namespace

size_t dtype_bytes(DType dtype) {
  switch (dtype) {
    case DType::kI8:
    case DType::kU8:
    case DType::kBool:
    case DType::kF8E4M3:
      return 1;
    case DType::kF16:
    case DType::kBF16:
    case DType::kI16:
    case DType::kU16:
      return 2;
    case DType::kF32:
    case DType::kI32:
    case DType::kU32:
      return 4;
    case DType::kF64:
    case DType::kI64:
    case DType::kU64:
      return 8;
  }
  return 0;
}

std::string_view dtype_name(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "float32";
    case DType::kF16:
      return "float16";
    case DType::kBF16:
      return "bfloat16";
    case DType::kF64:
      return "float64";
    case DType::kI64:
      return "int64";
    case DType::kI32:
      return "int32";
    case DType::kI16:
      return "int16";
    case DType::kI8:
      return "int8";
    case DType::kU8:
      return "uint8";
    case DType::kU16:
      return "uint16";
    case DType::kU32:
      return "uint32";
    case DType::kU64:
      return "uint64";
    case DType::kBool:
      return "bool";
    case DType::kF8E4M3:
      return "float8_e4m3";
  }
  return "unknown";
}

f16 to_f16(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  const uint32_t sign = bits >> 16 & 0x8000U;
  const uint32_t magnitude = bits & 0x7FFFFFFFU;
  uint32_t half = 0;
  if (magnitude > 0x7F800000U) {
    half = 0x7E00U;
  } else if (magnitude >= 0x477FF000U) {  // rounds to 65520 or more
    half = 0x7C00U;
  } else if (magnitude <
             0x38800000U) {  // below 2^-14: subnormal, let the FPU round to a multiple of 2^-24
    half = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5F) -
           std::bit_cast<uint32_t>(0.5F);
  } else {
    half = (magnitude - 0x38000000U + 0xFFFU + (magnitude >> 13 & 1U)) >> 13;
  }
  return {static_cast<uint16_t>(sign | half)};
}

void convert_to_f32(const void* src, DType dtype, float* dst, size_t n) {
  switch (dtype) {
    case DType::kF32:
      if (n > 0) std::memcpy(dst, src, n * sizeof(float));  // of nothing both may be null
      return;
    case DType::kF16:
      return widen<f16>(src, dst, n);
    case DType::kBF16:
    case DType::kU16:
      return widen<bf16>(src, dst, n);
    case DType::kF64:
      return widen<double>(src, dst, n);
    case DType::kF8E4M3:
      return widen<f8e4m3>(src, dst, n);
    default:
      fail(Code::kUnsupported, "cannot read {} as floating-point weights", dtype_name(dtype));
  }
}

void convert_from_f32(const float* src, DType dtype, void* dst, size_t n) {
  auto* bytes = static_cast<std::byte*>(dst);
  switch (dtype) {
    case DType::kF32:
      if (n > 0) std::memcpy(dst, src, n * sizeof(float));
      return;
    case DType::kF16:
      for (size_t i = 0; i < n; ++i) {
        const f16 value = to_f16(src[i]);
        std::memcpy(bytes + 2 * i, &value, 2);
      }
      return;
    case DType::kBF16:
      for (size_t i = 0; i < n; ++i) {
        const bf16 value = to_bf16(src[i]);
        std::memcpy(bytes + 2 * i, &value, 2);
      }
      return;
    default:
      fail(Code::kUnsupported, "cannot write floating-point weights as {}", dtype_name(dtype));
  }
}

}  // namespace erne
