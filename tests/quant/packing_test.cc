// pack and unpack are inverse for every layout over random and edge sizes, and refuse sizes that do
// not fit.
#include "quant/packing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/rng.h"

namespace erne {
namespace {

using testing::ElementsAreArray;

std::vector<uint8_t> random_codes(size_t n, int bits, uint64_t seed) {
  std::vector<uint8_t> codes(n);
  for (size_t i = 0; i < n; ++i) {
    codes[i] = static_cast<uint8_t>(philox(seed, 0, i)[0] & ((1U << bits) - 1U));
  }
  return codes;
}

TEST(Packing, NibblesComeBack) {
  for (size_t n = 0; n < 40; ++n) {
    std::vector<int8_t> codes;
    std::vector<int8_t> unsigned_codes;
    for (const uint8_t c : random_codes(n, 4, n)) {
      codes.push_back(static_cast<int8_t>(c - 8));
      unsigned_codes.push_back(static_cast<int8_t>(c));
    }
    EXPECT_EQ(unpack_nibbles(pack_nibbles(codes), n, NibbleSign::kSigned), codes);
    EXPECT_EQ(unpack_nibbles(pack_nibbles(unsigned_codes), n, NibbleSign::kUnsigned),
              unsigned_codes);
  }
  EXPECT_THROW(unpack_nibbles(std::vector<uint8_t>(3), 4, NibbleSign::kSigned), Error);
}

TEST(Packing, BitStreamsComeBackForEveryWidth) {
  for (int bits = 1; bits <= 8; ++bits) {
    for (size_t n = 0; n < 70; ++n) {
      const std::vector<uint8_t> codes = random_codes(n, bits, n);
      const std::vector<uint32_t> words = pack_bits(codes, bits);
      EXPECT_EQ(words.size(), (n * static_cast<size_t>(bits) + 31) / 32);
      EXPECT_EQ(unpack_bits(words, n, bits), codes) << bits << " bits, " << n;
    }
  }
  EXPECT_THROW(pack_bits({}, 0), Error);
  EXPECT_THROW(unpack_bits(std::vector<uint32_t>(1), 9, 4), Error);
}

TEST(Packing, WordsAreThoseOfTheSpecification) {
  const std::vector<uint8_t> eight{0, 1, 2, 3, 4, 5, 6, 7};
  EXPECT_THAT(awq_pack(eight), testing::ElementsAre(0x75316420U));
  EXPECT_THAT(pack_bits(eight, 4), testing::ElementsAre(0x76543210U));
  EXPECT_THROW(awq_pack(std::vector<uint8_t>(7)), Error);
}

TEST(Packing, Sm80IsThatOfTheSpecification) {
  std::vector<int8_t> codes(16 * 64);
  for (int n = 0; n < 16; ++n) {
    for (int k = 0; k < 64; ++k) {
      codes[static_cast<size_t>(n * 64 + k)] = static_cast<int8_t>((3 * k + 5 * n) % 15 - 7);
    }
  }
  const uint8_t four[]{0xA1, 0xD4, 0xD4, 0x17, 0x17, 0x4A, 0x4A, 0x7D,
                       0x7D, 0xA1, 0xA1, 0xD4, 0xD4, 0x17, 0x17, 0x4A};
  const uint8_t eight[]{0x79, 0x82, 0x7C, 0x85, 0x7F, 0x79, 0x82, 0x7C,
                        0x85, 0x7F, 0x79, 0x82, 0x7C, 0x85, 0x7F, 0x79};
  std::vector<uint8_t> packed = paddle_sm80_pack(codes, 16, 64, 4);
  packed.resize(16);
  EXPECT_THAT(packed, ElementsAreArray(four));
  packed = paddle_sm80_pack(codes, 16, 64, 8);
  packed.resize(16);
  EXPECT_THAT(packed, ElementsAreArray(eight));
}

TEST(Packing, Sm80ComesBack) {
  for (const int bits : {4, 8}) {
    for (const auto& [rows, cols] : {std::pair{16, 64}, {48, 64}, {16, 192}, {64, 128}}) {
      std::vector<int8_t> codes;
      for (const uint8_t c : random_codes(static_cast<size_t>(rows * cols), bits, 1)) {
        codes.push_back(static_cast<int8_t>(c - (1 << (bits - 1))));
      }
      const std::vector<uint8_t> packed = paddle_sm80_pack(codes, rows, cols, bits);
      EXPECT_EQ(packed.size(), codes.size() * static_cast<size_t>(bits) / 8);
      EXPECT_EQ(paddle_sm80_unpack(packed, rows, cols, bits), codes);
    }
  }
  EXPECT_THROW(paddle_sm80_pack(std::vector<int8_t>(16 * 32), 16, 32, 4), Error);
  EXPECT_THROW(paddle_sm80_pack(std::vector<int8_t>(16 * 63), 16, 64, 4), Error);
  EXPECT_THROW(paddle_sm80_unpack(std::vector<uint8_t>(16 * 64), 16, 64, 4), Error);
  EXPECT_THROW(paddle_sm80_pack(std::vector<int8_t>(16 * 64), 16, 64, 2), Error);
}

}  // namespace
}  // namespace erne
