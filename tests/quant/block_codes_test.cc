// Formats whose codes stand in blocks: GGUF rows have dequantize()'s values, CCQ words decode as
// specified, and both refuse tensors that do not fit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "base/error.h"
#include "quant/ccq.h"
#include "quant/gguf_codes.h"
#include "quant/samples.h"

namespace erne {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using namespace testing_support;  // NOLINT

// Random blocks with finite half-precision scales.
std::vector<std::byte> random_blocks(GgufType type, int64_t blocks, uint64_t seed) {
  const auto size = static_cast<size_t>(gguf_block(type).bytes);
  std::vector<std::byte> bytes(static_cast<size_t>(blocks) * size);
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>(philox(seed, 0, i)[0] & 0xFF);
    if (bytes[i] == std::byte{0x80}) bytes[i] = std::byte{1};
  }
  for (size_t b = 0; b < bytes.size(); b += size) {
    for (const size_t half : {b + 1, b + 3}) bytes[half] = bytes[half] & std::byte{0xBB};
  }
  return bytes;
}

TEST(GgufCodes, ValuesAreThoseOfDequantize) {
  for (const GgufType type : {GgufType::kQ8_0, GgufType::kQ4_0, GgufType::kQ4_1, GgufType::kQ5_0,
                              GgufType::kQ5_1, GgufType::kQ4_K, GgufType::kQ5_K}) {
    const int64_t cols = 2 * gguf_block(type).values;
    const int64_t rows = 40;
    const std::vector<std::byte> blocks = random_blocks(type, 2 * rows, 3);
    const auto codes = gguf_code_rows(type, blocks, rows, cols, "w");
    ASSERT_NE(codes, nullptr);
    std::vector<float> expected(static_cast<size_t>(rows * cols));
    dequantize(type, blocks.data(), expected.data(), rows * cols);
    EXPECT_EQ(values_of(*codes), expected) << gguf_type_name(static_cast<uint32_t>(type));
    if (codes->format().type == CodeType::kInt4 && !codes->format().has_min) {
      for (const int8_t c : read_all(*codes).codes) ASSERT_TRUE(c >= -8 && c <= 7);
    }
  }
}

TEST(GgufCodes, RefusesOrDeclines) {
  const std::vector<std::byte> blocks = random_blocks(GgufType::kQ8_0, 4, 1);
  EXPECT_THROW(gguf_code_rows(GgufType::kQ8_0, blocks, 4, 33, "w"), Error);
  EXPECT_THROW(gguf_code_rows(GgufType::kQ8_0, blocks, 5, 32, "w"), Error);
  EXPECT_THROW(gguf_code_rows(GgufType::kQ8_0, {}, int64_t{1} << 60, 32, "w"), Error);
  try {
    gguf_code_rows(GgufType::kQ8_0, blocks, 5, 32, "blk.0.ffn_up.weight");
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("blk.0.ffn_up.weight: 136 bytes; [5, 32] of Q8_0 has 170"));
  }
  EXPECT_EQ(gguf_code_rows(GgufType::kQ6_K, random_blocks(GgufType::kQ6_K, 1, 1), 1, 256, "w"),
            nullptr);
  EXPECT_EQ(gguf_code_rows(GgufType::kF16, std::vector<std::byte>(64), 1, 32, "w"), nullptr);
  std::vector<std::byte> lowest = blocks;
  lowest[34 + 7] = std::byte{0x80};
  EXPECT_EQ(gguf_code_rows(GgufType::kQ8_0, lowest, 4, 32, "w"), nullptr);
}

TEST(Ccq, DecodesTheSpecificationsWords) {
  EXPECT_THAT(ccq25_word(0xB3C5), ElementsAre(1, 2, -3, 3, 0, -3, 1));
  const Ccq25 group{
      1,
      64,
      {0x785a, 0x7abc, 0x2e9e, 0x5f17, 0x4daf, 0x89c6, 0xd5e4, 0xe36a, 0xf2f1, 0xb51a},
      {to_bf16(1.8328428e-6F)}};
  const Codes all = read_all(*ccq25_rows(group));
  EXPECT_NEAR(all.scales[0], .00990102, 1e-8);
  EXPECT_THAT(std::vector<int8_t>(all.codes.begin(), all.codes.begin() + 7),
              ElementsAre(-1, 3, 0, -3, 1, 2, -2));
  EXPECT_EQ(all.codes[63], 1);
  const auto book = ccq2_book(120.94154638914296F, 37.54015775352458F);
  EXPECT_THAT(book[0], ElementsAre(-32, -32, -28, 6));
  EXPECT_THAT(book[1], ElementsAre(-32, -30, -13, -2));
  EXPECT_THAT(book[200], ElementsAre(15, 26, -12, 2));
  EXPECT_THAT(book[255], ElementsAre(28, 2, -13, -2));
  ccq2_book(INFINITY, NAN);  // means nothing, but must not crash
  ccq2_book(3e38F, -3e38F);
}

// The Viterbi search finds what trying all words finds.
TEST(Ccq, EncodesEveryWordAtItsNearest) {
  const std::vector<float> w = gaussian(64, 9);
  const Ccq25 encoded = ccq25_encode(view(w, 1, 64));
  const float step = read_all(*ccq25_rows(encoded)).scales[0];
  for (size_t run = 0; run < 9; ++run) {
    auto error = [&](uint16_t word) {
      double sum = 0;
      const auto values = ccq25_word(word);
      for (size_t i = 0; i < 7; ++i) {
        const double e = double{w[7 * run + i]} / step - values[i];
        sum += e * e;
      }
      return sum;
    };
    double best = 1e30;
    for (uint32_t word = 0; word < 65536; ++word) {
      best = std::min(best, error(static_cast<uint16_t>(word)));
    }
    EXPECT_NEAR(error(encoded.words[run]), best, 1e-5) << run;
  }
}

TEST(Ccq, EncodesZeroRowsAndRefusesTheRest) {
  std::vector<float> w(2 * 128);
  for (size_t i = 0; i < 128; ++i) w[i] = 1e-3F * static_cast<float>(i % 7);
  const std::vector<float> two = values_of(*ccq2_rows(ccq2_encode(view(w, 2, 128))));
  const std::vector<float> mid = values_of(*ccq25_rows(ccq25_encode(view(w, 2, 128))));
  for (size_t i = 128; i < 256; ++i) {
    EXPECT_EQ(two[i], 0);
    EXPECT_EQ(mid[i], 0);
  }
  EXPECT_THROW(ccq2_encode(view(w, 4, 64)), Error);
  EXPECT_THROW(ccq25_encode(view(w, 8, 32)), Error);
  w[3] = INFINITY;
  EXPECT_THROW(ccq25_encode(view(w, 2, 128)), Error);
  EXPECT_THROW(ccq2_encode(view(w, 2, 128)), Error);
}

TEST(Ccq, RefusesTensorsThatDoNotFit) {
  Ccq2 two = ccq2_encode(view(gaussian(2 * 128, 1), 2, 128));
  two.local.pop_back();
  EXPECT_THROW(ccq2_rows(two), Error);
  Ccq25 mid = ccq25_encode(view(gaussian(2 * 64, 1), 2, 64));
  mid.super.clear();
  EXPECT_THROW(ccq25_rows(mid), Error);
  mid.cols = 96;
  EXPECT_THROW(ccq25_rows(mid), Error);
}

}  // namespace
}  // namespace erne
