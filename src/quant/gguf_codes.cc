#include "quant/gguf_codes.h"

#include <cstring>
#include <optional>
#include <string>

#include "base/error.h"
#include "quant/raw_tensor.h"

namespace erne {
namespace {

constexpr int kSmall = 32;

uint8_t byte_at(const std::byte* p, int i) { return std::to_integer<uint8_t>(p[i]); }

float half_at(const std::byte* p) {
  f16 value;
  std::memcpy(&value, p, sizeof value);
  return to_f32(value);
}

struct Out {
  int8_t* codes;
  float* scales;
  float* mins;
};

void block_q8_0(const std::byte* block, Out out) {
  out.scales[0] = half_at(block);
  std::memcpy(out.codes, block + 2, kSmall);
}

// Byte j holds values j (low nibble) and j + 16 (high).
void split_nibbles(const std::byte* packed, int offset, int8_t* codes) {
  for (int j = 0; j < kSmall / 2; ++j) {
    codes[j] = static_cast<int8_t>((byte_at(packed, j) & 15) - offset);
    codes[j + kSmall / 2] = static_cast<int8_t>((byte_at(packed, j) >> 4) - offset);
  }
}

void block_q4_0(const std::byte* block, Out out) {
  out.scales[0] = half_at(block);
  split_nibbles(block + 2, 8, out.codes);
}

void block_q4_1(const std::byte* block, Out out) {
  out.scales[0] = half_at(block);
  out.mins[0] = half_at(block + 2);
  split_nibbles(block + 4, 0, out.codes);
}

// As split_nibbles with a fifth bit above: bit i of the four bytes of `high` is value i's.
void five_bits(const std::byte* high, const std::byte* packed, int offset, int8_t* codes) {
  split_nibbles(packed, 0, codes);
  for (int i = 0; i < kSmall; ++i) {
    const int fifth = byte_at(high, i / 8) >> (i % 8) & 1;
    codes[i] = static_cast<int8_t>((codes[i] | fifth << 4) - offset);
  }
}

void block_q5_0(const std::byte* block, Out out) {
  out.scales[0] = half_at(block);
  five_bits(block + 2, block + 6, 16, out.codes);
}

void block_q5_1(const std::byte* block, Out out) {
  out.scales[0] = half_at(block);
  out.mins[0] = half_at(block + 2);
  five_bits(block + 4, block + 8, 0, out.codes);
}

// The eight 6-bit scales and minima of a K block in 12 bytes: groups 0-3 in the low six bits of
// bytes g and g + 4; groups 4-7 in the nibbles of byte g + 4 and the top bits of the first eight.
void k_scales(const std::byte* block, Out out) {
  const float d = half_at(block);
  const float dmin = half_at(block + 2);
  const std::byte* s = block + 4;
  for (int g = 0; g < 8; ++g) {
    const int low = byte_at(s, g + (g < 4 ? 0 : 4));
    const int scale = g < 4 ? low & 63 : (low & 15) | byte_at(s, g - 4) >> 6 << 4;
    const int min = g < 4 ? byte_at(s, g + 4) & 63 : low >> 4 | byte_at(s, g) >> 6 << 4;
    out.scales[g] = d * static_cast<float>(scale);
    out.mins[g] = -(dmin * static_cast<float>(min));
  }
}

// 32 bytes serve two groups: low, then high nibbles.
int k_nibble(const std::byte* quants, int group, int i) {
  return byte_at(quants, group / 2 * 32 + i) >> (group % 2 * 4) & 15;
}

void block_q4_k(const std::byte* block, Out out) {
  k_scales(block, out);
  for (int i = 0; i < 256; ++i) {
    out.codes[i] = static_cast<int8_t>(k_nibble(block + 16, i / 32, i % 32));
  }
}

void block_q5_k(const std::byte* block, Out out) {
  k_scales(block, out);
  for (int i = 0; i < 256; ++i) {
    const int fifth = byte_at(block + 16, i % 32) >> (i / 32) & 1;
    out.codes[i] = static_cast<int8_t>(k_nibble(block + 48, i / 32, i % 32) | fifth << 4);
  }
}

using BlockFn = void (*)(const std::byte*, Out);

struct Form {
  CodeFormat format;
  BlockFn decode;
};

std::optional<Form> form_of(GgufType type) {
  switch (type) {
    case GgufType::kQ8_0:
      return Form{{CodeType::kInt8, kSmall, false, DType::kF16}, block_q8_0};
    case GgufType::kQ4_0:
      return Form{{CodeType::kInt4, kSmall, false, DType::kF16}, block_q4_0};
    case GgufType::kQ4_1:
      return Form{{CodeType::kInt4, kSmall, true, DType::kF16}, block_q4_1};
    case GgufType::kQ5_0:
      return Form{{CodeType::kInt8, kSmall, false, DType::kF16}, block_q5_0};
    case GgufType::kQ5_1:
      return Form{{CodeType::kInt8, kSmall, true, DType::kF16}, block_q5_1};
    case GgufType::kQ4_K:
      return Form{{CodeType::kInt4, kSmall, true, DType::kF32}, block_q4_k};
    case GgufType::kQ5_K:
      return Form{{CodeType::kInt8, kSmall, true, DType::kF32}, block_q5_k};
    default:
      return std::nullopt;
  }
}

class GgufRows final : public CodeRows {
 public:
  GgufRows(const Form& form, GgufBlock block, const std::byte* data, int64_t rows, int64_t cols)
      : CodeRows(form.format, rows, cols), decode_(form.decode), block_(block), data_(data) {}

  void read(int64_t row, int8_t* codes, float* scales, float* mins) const override {
    const int64_t blocks = cols() / block_.values;
    const int64_t groups = block_.values / kSmall;
    for (int64_t b = 0; b < blocks; ++b) {
      decode_(data_ + (row * blocks + b) * block_.bytes,
              {codes + b * block_.values, scales + b * groups,
               mins == nullptr ? nullptr : mins + b * groups});
    }
  }

 private:
  BlockFn decode_;
  GgufBlock block_;
  const std::byte* data_;
};

// -128 is no symmetric int8 code; ggml's own encoder never writes it.
bool holds_lowest(std::span<const std::byte> q8_0) {
  for (size_t block = 0; block < q8_0.size(); block += kSmall + 2) {
    if (std::memchr(q8_0.data() + block + 2, 0x80, kSmall) != nullptr) return true;
  }
  return false;
}

}  // namespace

std::unique_ptr<CodeRows> gguf_code_rows(GgufType type, std::span<const std::byte> data,
                                         int64_t rows, int64_t cols, std::string_view name) {
  check_matrix(rows, cols);
  const GgufBlock block = gguf_block(type);
  const std::string type_name = gguf_type_name(static_cast<uint32_t>(type));
  if (cols % block.values != 0) {
    fail(Code::kCorrupt, "{}: rows of {} values; {} has blocks of {}", name, cols, type_name,
         block.values);
  }
  const int64_t bytes = rows * (cols / block.values) * block.bytes;
  if (data.size() != static_cast<uint64_t>(bytes)) {
    fail(Code::kCorrupt, "{}: {} bytes; [{}, {}] of {} has {}", name, data.size(), rows, cols,
         type_name, bytes);
  }
  const std::optional<Form> form = form_of(type);
  if (!form || (type == GgufType::kQ8_0 && holds_lowest(data))) return nullptr;
  return std::make_unique<GgufRows>(*form, block, data.data(), rows, cols);
}

}  // namespace erne
