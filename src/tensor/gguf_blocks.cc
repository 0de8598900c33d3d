// Dequantisation in plain loops: conversion is bound by the disk, and these loops are easy to
// compare with the format.
#include "tensor/gguf_blocks.h"

#include <array>
#include <cstring>

#include "base/error.h"
#include "tensor/dtype.h"

namespace erne {
namespace {

constexpr int kSmall = 32;  // values of a plain block
constexpr int kSuper =
    256;  // values of a K block: eight or sixteen groups with scales of their own

uint8_t byte_at(const std::byte* p, int i) { return std::to_integer<uint8_t>(p[i]); }
int8_t int8_at(const std::byte* p, int i) { return static_cast<int8_t>(byte_at(p, i)); }

float half_at(const std::byte* p) {
  f16 value;
  std::memcpy(&value, p, sizeof value);
  return to_f32(value);
}

// Value i of a plain block with five bits: bit i of `high` above the nibble, low ones first.
int five_bits(const std::byte* high, const std::byte* packed, int i) {
  const uint8_t pair = byte_at(packed, i % (kSmall / 2));
  const int nibble = i < kSmall / 2 ? pair & 0x0F : pair >> 4;
  return nibble | (byte_at(high, i / 8) >> (i % 8) & 1) << 4;
}

// fp16 d, 32 int8 q: d q.
void block_q8_0(const std::byte* block, float* dst) {
  const float d = half_at(block);
  for (int i = 0; i < kSmall; ++i) dst[i] = d * static_cast<float>(int8_at(block + 2, i));
}

// fp16 d, 16 bytes; byte j holds elements j (low) and j + 16 (high): d (q - 8).
void block_q4_0(const std::byte* block, float* dst) {
  const float d = half_at(block);
  for (int j = 0; j < kSmall / 2; ++j) {
    const uint8_t packed = byte_at(block + 2, j);
    dst[j] = static_cast<float>((packed & 0x0F) - 8) * d;
    dst[j + kSmall / 2] = static_cast<float>((packed >> 4) - 8) * d;
  }
}

// fp16 d, fp16 m, 16 bytes as above: d q + m.
void block_q4_1(const std::byte* block, float* dst) {
  const float d = half_at(block);
  const float m = half_at(block + 2);
  for (int j = 0; j < kSmall / 2; ++j) {
    const uint8_t packed = byte_at(block + 4, j);
    dst[j] = static_cast<float>(packed & 0x0F) * d + m;
    dst[j + kSmall / 2] = static_cast<float>(packed >> 4) * d + m;
  }
}

// fp16 d, 32 fifth bits (bit i is value i's), 16 bytes as Q4_0: d (q - 16).
void block_q5_0(const std::byte* block, float* dst) {
  const float d = half_at(block);
  for (int i = 0; i < kSmall; ++i) {
    dst[i] = static_cast<float>(five_bits(block + 2, block + 6, i) - 16) * d;
  }
}

// fp16 d, fp16 m, fifth bits and nibbles as Q5_0: d q + m.
void block_q5_1(const std::byte* block, float* dst) {
  const float d = half_at(block);
  const float m = half_at(block + 2);
  for (int i = 0; i < kSmall; ++i) {
    dst[i] = static_cast<float>(five_bits(block + 4, block + 8, i)) * d + m;
  }
}

struct ScaleMin {
  float scale;
  float min;
};

// Group g's 6-bit scale and minimum out of the 12 bytes that Q4_K and Q5_K share: groups 0-3 in the
// low six bits of bytes g and g + 4; groups 4-7 in the nibbles of byte g + 4 with their top two
// bits above groups 0-3.
ScaleMin k_scale(const std::byte* scales, int g, float d, float dmin) {
  if (g < 4) {
    return {d * static_cast<float>(byte_at(scales, g) & 63),
            dmin * static_cast<float>(byte_at(scales, g + 4) & 63)};
  }
  const int scale = (byte_at(scales, g + 4) & 0x0F) | (byte_at(scales, g - 4) >> 6 << 4);
  const int min = (byte_at(scales, g + 4) >> 4) | (byte_at(scales, g) >> 6 << 4);
  return {d * static_cast<float>(scale), dmin * static_cast<float>(min)};
}

// fp16 d, fp16 dmin, 12 bytes of scales, 128 bytes of nibbles. 32 bytes serve two groups of 32:
// low, then high nibbles.
void block_q4_k(const std::byte* block, float* dst) {
  const float d = half_at(block);
  const float dmin = half_at(block + 2);
  const std::byte* quants = block + 16;
  for (int g = 0; g < 8; ++g) {
    const ScaleMin s = k_scale(block + 4, g, d, dmin);
    for (int i = 0; i < 32; ++i) {
      const uint8_t packed = byte_at(quants, g / 2 * 32 + i);
      const int q = g % 2 == 0 ? packed & 0x0F : packed >> 4;
      dst[g * 32 + i] = s.scale * static_cast<float>(q) - s.min;
    }
  }
}

// As Q4_K with 32 bytes of fifth bits before the nibbles; bit g of byte i belongs to value i of
// group g.
void block_q5_k(const std::byte* block, float* dst) {
  const float d = half_at(block);
  const float dmin = half_at(block + 2);
  const std::byte* high = block + 16;
  const std::byte* quants = block + 48;
  for (int g = 0; g < 8; ++g) {
    const ScaleMin s = k_scale(block + 4, g, d, dmin);
    for (int i = 0; i < 32; ++i) {
      const uint8_t packed = byte_at(quants, g / 2 * 32 + i);
      const int low = g % 2 == 0 ? packed & 0x0F : packed >> 4;
      const int q = low | (byte_at(high, i) >> g & 1) << 4;
      dst[g * 32 + i] = s.scale * static_cast<float>(q) - s.min;
    }
  }
}

// 128 bytes of low nibbles, 64 of two high bits each, 16 int8 scales, fp16 d: d scale (q - 32).
// Each half of 128 values is four runs of 32; run r takes nibble r / 2 of byte (r % 2) * 32 + i and
// bits 2r of high byte i.
void block_q6_k(const std::byte* block, float* dst) {
  const float d = half_at(block + 208);
  for (int half = 0; half < 2; ++half) {
    const std::byte* low = block + half * 64;
    const std::byte* high = block + 128 + half * 32;
    const std::byte* scales = block + 192 + half * 8;
    for (int r = 0; r < 4; ++r) {
      for (int i = 0; i < 32; ++i) {
        const uint8_t packed = byte_at(low, r % 2 * 32 + i);
        const int nibble = r < 2 ? packed & 0x0F : packed >> 4;
        const int q = (nibble | (byte_at(high, i) >> (2 * r) & 3) << 4) - 32;
        const float scale = d * static_cast<float>(int8_at(scales, 2 * r + i / 16));
        dst[half * 128 + r * 32 + i] = scale * static_cast<float>(q);
      }
    }
  }
}

template <typename BlockFn>
void each_block(GgufType type, const std::byte* src, float* dst, int64_t n, BlockFn decode) {
  const GgufBlock block = gguf_block(type);
  for (int64_t i = 0; i < n; i += block.values, src += block.bytes) decode(src, dst + i);
}

// Index = ggml's type id; empty ids were removed from the format.
constexpr std::array<std::string_view, 40> kTypeNames{
    "F32",     "F16",    "Q4_0",    "Q4_1",  "",       "",      "Q5_0",  "Q5_1",
    "Q8_0",    "Q8_1",   "Q2_K",    "Q3_K",  "Q4_K",   "Q5_K",  "Q6_K",  "Q8_K",
    "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS",
    "I8",      "I16",    "I32",     "I64",   "F64",    "IQ1_M", "BF16",  "",
    "",        "",       "TQ1_0",   "TQ2_0", "",       "",      "",      "MXFP4"};

}  // namespace

std::optional<GgufType> gguf_type(uint32_t id) {
  switch (static_cast<GgufType>(id)) {
    case GgufType::kF32:
    case GgufType::kF16:
    case GgufType::kQ4_0:
    case GgufType::kQ4_1:
    case GgufType::kQ5_0:
    case GgufType::kQ5_1:
    case GgufType::kQ8_0:
    case GgufType::kQ4_K:
    case GgufType::kQ5_K:
    case GgufType::kQ6_K:
    case GgufType::kBF16:
      return static_cast<GgufType>(id);
  }
  return std::nullopt;
}

GgufBlock gguf_block(GgufType type) {
  switch (type) {
    case GgufType::kF32:
      return {1, 4};
    case GgufType::kF16:
    case GgufType::kBF16:
      return {1, 2};
    case GgufType::kQ4_0:
      return {kSmall, 18};
    case GgufType::kQ4_1:
      return {kSmall, 20};
    case GgufType::kQ5_0:
      return {kSmall, 22};
    case GgufType::kQ5_1:
      return {kSmall, 24};
    case GgufType::kQ8_0:
      return {kSmall, 34};
    case GgufType::kQ4_K:
      return {kSuper, 144};
    case GgufType::kQ5_K:
      return {kSuper, 176};
    case GgufType::kQ6_K:
      return {kSuper, 210};
  }
  ERNE_CHECK(false, "GGUF type {}", static_cast<uint32_t>(type));
}

std::string gguf_type_name(uint32_t id) {
  if (id < kTypeNames.size() && !kTypeNames[id].empty()) return std::string(kTypeNames[id]);
  return fmt::format("type {}", id);
}

void dequantize(GgufType type, const std::byte* src, float* dst, int64_t n) {
  ERNE_CHECK(n % gguf_block(type).values == 0, "{} values", n);
  switch (type) {
    case GgufType::kF32:
      return convert_to_f32(src, DType::kF32, dst, static_cast<size_t>(n));
    case GgufType::kF16:
      return convert_to_f32(src, DType::kF16, dst, static_cast<size_t>(n));
    case GgufType::kBF16:
      return convert_to_f32(src, DType::kBF16, dst, static_cast<size_t>(n));
    case GgufType::kQ4_0:
      return each_block(type, src, dst, n, block_q4_0);
    case GgufType::kQ4_1:
      return each_block(type, src, dst, n, block_q4_1);
    case GgufType::kQ5_0:
      return each_block(type, src, dst, n, block_q5_0);
    case GgufType::kQ5_1:
      return each_block(type, src, dst, n, block_q5_1);
    case GgufType::kQ8_0:
      return each_block(type, src, dst, n, block_q8_0);
    case GgufType::kQ4_K:
      return each_block(type, src, dst, n, block_q4_k);
    case GgufType::kQ5_K:
      return each_block(type, src, dst, n, block_q5_k);
    case GgufType::kQ6_K:
      return each_block(type, src, dst, n, block_q6_k);
  }
}

}  // namespace erne
