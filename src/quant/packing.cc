#include "quant/packing.h"

#include <array>
#include <cstring>

#include "base/error.h"

namespace erne {
namespace {

constexpr std::array<int, 8> kAwqSlot{0, 4, 1, 5, 2, 6, 3, 7};  // of value j
constexpr std::array<int, 4> kByteOrder{0, 2, 1, 3};
constexpr std::array<int, 8> kNibbleOrder{0, 2, 4, 6, 1, 3, 5, 7};

void check_count(size_t have, size_t want, const char* what) {
  if (have != want) fail(Code::kInvalidArgument, "{} {}; there must be {}", have, what, want);
}

void check_bits(int bits) {
  if (bits < 1 || bits > 8) fail(Code::kInvalidArgument, "{} bits; 1 to 8 can be packed", bits);
}

// Where code (n, k) of a matrix [rows, cols] goes in the sm_80 layout, counted in codes.
class Sm80Order {
 public:
  Sm80Order(int64_t rows, int64_t cols, int bits) : rows_(rows), cols_(cols), bits_(bits) {
    if (bits != 4 && bits != 8) {
      fail(Code::kInvalidArgument, "{} bits; the sm_80 layout has 4 or 8", bits);
    }
    if (rows < 16 || cols < 64 || rows % 16 != 0 || cols % 64 != 0) {
      fail(Code::kInvalidArgument,
           "[{}, {}]: the sm_80 layout needs outputs in 16s and inputs in 64s", rows, cols);
    }
    const int64_t lanes = 32 / bits;  // codes of a register
    tile_ = 128 / bits;
    for (int64_t t = 0; t < tile_; ++t) {
      const int64_t source = 8 * ((t % lanes) / 2) + t % 2 + 2 * (t / lanes);
      target_[static_cast<size_t>(source)] = t;
    }
    for (int64_t i = 0; i < lanes; ++i) {
      const int from =
          bits == 8 ? kByteOrder[static_cast<size_t>(i)] : kNibbleOrder[static_cast<size_t>(i)];
      slot_[static_cast<size_t>(from)] = i;
    }
    lanes_ = lanes;
    interleave_ = 16 / bits;
  }

  int64_t at(int64_t n, int64_t k) const {
    const int64_t row = k / tile_ * tile_ + target_[static_cast<size_t>(k % tile_)];
    const int64_t block = n / interleave_ * (cols_ / 64) + row / 64;
    const int64_t linear = (block * interleave_ + n % interleave_) * 64 + row % 64;
    return linear / lanes_ * lanes_ + slot_[static_cast<size_t>(linear % lanes_)];
  }
  size_t codes() const { return static_cast<size_t>(rows_ * cols_); }
  size_t bytes() const { return codes() * static_cast<size_t>(bits_) / 8; }

 private:
  int64_t rows_;
  int64_t cols_;
  int bits_;
  int64_t tile_ = 0;
  int64_t lanes_ = 0;
  int64_t interleave_ = 0;
  std::array<int64_t, 32> target_{};
  std::array<int64_t, 8> slot_{};
};

class Sm80Rows final : public CodeRows {
 public:
  Sm80Rows(const RawTensor& codes, const RawTensor& scale, int bits, int64_t rows, int64_t cols)
      : CodeRows({bits == 8 ? CodeType::kInt8 : CodeType::kInt4, 0, false,
                  scale.dtype == DType::kU16 ? DType::kBF16 : scale.dtype},
                 rows, cols),
        codes_(codes),
        scales_(float_values(scale)),
        bits_(bits),
        order_(rows, cols, bits) {}

  void read(int64_t row, int8_t* codes, float* scales, float* /*mins*/) const override {
    for (int64_t k = 0; k < cols(); ++k) {
      const int64_t at = order_.at(row, k);
      const int u =
          bits_ == 8 ? codes_.at<uint8_t>(at) : codes_.at<uint8_t>(at / 2) >> (at % 2 * 4) & 15;
      codes[k] = static_cast<int8_t>(u - (1 << (bits_ - 1)));
    }
    scales[0] = scales_[static_cast<size_t>(row)];
  }

 private:
  RawTensor codes_;
  std::vector<float> scales_;
  int bits_;
  Sm80Order order_;
};

}  // namespace

std::unique_ptr<CodeRows> paddle_sm80_rows(const RawTensor& codes, const RawTensor& scale, int bits,
                                           int64_t rows, int64_t cols) {
  if (rows % 16 != 0 || cols % 64 != 0)
    fail(Code::kCorrupt, "{}: [{}, {}]; this layout has outputs in 16s and inputs in 64s",
         codes.name, rows, cols);
  check_tensor(codes, {DType::kI8, DType::kU8}, {bits == 8 ? rows : rows / 2, cols});
  check_tensor(scale, {DType::kF32, DType::kF16, DType::kBF16, DType::kU16}, {rows});
  return std::make_unique<Sm80Rows>(codes, scale, bits, rows, cols);
}

std::vector<uint8_t> pack_nibbles(std::span<const int8_t> codes) {
  std::vector<uint8_t> packed((codes.size() + 1) / 2);
  for (size_t i = 0; i < codes.size(); ++i) {
    packed[i / 2] |= static_cast<uint8_t>((codes[i] & 15) << (i % 2 * 4));
  }
  return packed;
}

std::vector<int8_t> unpack_nibbles(std::span<const uint8_t> packed, size_t count, NibbleSign sign) {
  check_count(packed.size(), (count + 1) / 2, "bytes of nibbles");
  std::vector<int8_t> codes(count);
  for (size_t i = 0; i < count; ++i) {
    const int u = packed[i / 2] >> (i % 2 * 4) & 15;
    codes[i] = static_cast<int8_t>(sign == NibbleSign::kSigned ? (u ^ 8) - 8 : u);
  }
  return codes;
}

std::vector<uint8_t> paddle_sm80_pack(std::span<const int8_t> codes, int64_t rows, int64_t cols,
                                      int bits) {
  const Sm80Order order(rows, cols, bits);
  check_count(codes.size(), order.codes(), "codes");
  std::vector<uint8_t> packed(order.bytes());
  for (int64_t n = 0; n < rows; ++n) {
    for (int64_t k = 0; k < cols; ++k) {
      const int u = codes[static_cast<size_t>(n * cols + k)] + (1 << (bits - 1));
      const auto at = static_cast<size_t>(order.at(n, k));
      if (bits == 8) {
        packed[at] = static_cast<uint8_t>(u);
      } else {
        packed[at / 2] |= static_cast<uint8_t>((u & 15) << (at % 2 * 4));
      }
    }
  }
  return packed;
}

std::vector<int8_t> paddle_sm80_unpack(std::span<const uint8_t> packed, int64_t rows, int64_t cols,
                                       int bits) {
  const Sm80Order order(rows, cols, bits);
  check_count(packed.size(), order.bytes(), "bytes");
  std::vector<int8_t> codes(order.codes());
  for (int64_t n = 0; n < rows; ++n) {
    for (int64_t k = 0; k < cols; ++k) {
      const auto at = static_cast<size_t>(order.at(n, k));
      const int u = bits == 8 ? packed[at] : packed[at / 2] >> (at % 2 * 4) & 15;
      codes[static_cast<size_t>(n * cols + k)] = static_cast<int8_t>(u - (1 << (bits - 1)));
    }
  }
  return codes;
}

std::vector<uint32_t> pack_bits(std::span<const uint8_t> values, int bits) {
  check_bits(bits);
  const auto width = static_cast<size_t>(bits);
  std::vector<uint32_t> words((values.size() * width + 31) / 32);
  for (size_t i = 0; i < values.size(); ++i) {
    const uint64_t value = uint64_t{values[i]} & ((1U << bits) - 1U);
    const uint64_t shifted = value << (i * width % 32);
    const size_t word = i * width / 32;
    words[word] |= static_cast<uint32_t>(shifted);
    if (shifted >> 32 != 0) words[word + 1] |= static_cast<uint32_t>(shifted >> 32);
  }
  return words;
}

std::vector<uint8_t> unpack_bits(std::span<const uint32_t> words, size_t count, int bits) {
  check_bits(bits);
  check_count(words.size(), (count * static_cast<size_t>(bits) + 31) / 32, "words");
  const BitMatrix stream{std::as_bytes(words).data(), bits};
  std::vector<uint8_t> values(count);
  for (size_t i = 0; i < count; ++i) {
    values[i] = static_cast<uint8_t>(stream.get(0, static_cast<int64_t>(i)));
  }
  return values;
}

std::vector<uint32_t> awq_pack(std::span<const uint8_t> values) {
  check_count(values.size() % 8, 0, "4-bit values beyond a multiple of 8");
  std::vector<uint32_t> words(values.size() / 8);
  for (size_t i = 0; i < values.size(); ++i) {
    words[i / 8] |= uint32_t{values[i] & 15U} << (4 * kAwqSlot[i % 8]);
  }
  return words;
}

std::vector<uint8_t> awq_unpack(std::span<const uint32_t> words) {
  const BitMatrix stream{std::as_bytes(words).data(), 4, 0, 1, true};
  std::vector<uint8_t> values(words.size() * 8);
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<uint8_t>(stream.get(0, static_cast<int64_t>(i)));
  }
  return values;
}

uint32_t BitMatrix::get(int64_t i, int64_t j) const {
  if (awq_order) j = j / 8 * 8 + kAwqSlot[static_cast<size_t>(j % 8)];
  const int64_t bit = j * bits;
  const std::byte* first = words + 4 * (i * row_stride + bit / 32 * word_stride);
  uint32_t low = 0;
  std::memcpy(&low, first, 4);
  uint64_t both = low;
  const auto shift = static_cast<int>(bit % 32);
  if (shift + bits > 32) {
    uint32_t high = 0;
    std::memcpy(&high, first + 4 * word_stride, 4);
    both |= uint64_t{high} << 32;
  }
  return static_cast<uint32_t>(both >> shift) & ((1U << bits) - 1U);
}

}  // namespace erne
