// Formats whose codes stand in blocks: GGUF rows have dequantize()'s values, CCQ words decode as
// specified, and both refuse tensors that do not fit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <span>
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

template <typename T>
RawTensor raw(const char* name, DType dtype, std::vector<int64_t> shape, const std::vector<T>& v) {
  return {name, dtype, std::move(shape), std::as_bytes(std::span(v))};
}

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
  const std::vector<uint16_t> words{0x785a, 0x7abc, 0x2e9e, 0x5f17, 0x4daf,
                                    0x89c6, 0xd5e4, 0xe36a, 0xf2f1, 0xb51a};
  const std::vector<bf16> super{to_bf16(1.8328428e-6F)};
  const Codes all = read_all(*ccq25_rows(
      {raw("words", DType::kU16, {10, 1}, words), raw("super", DType::kBF16, {1}, super)}, 1, 64));
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
  const auto rows = ccq_rows(view(w, 1, 64), CodeType::kCcq25);
  const float step = read_all(*rows).scales[0];
  std::vector<uint8_t> bytes(20);
  rows->read_ccq(0, bytes.data());
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
    const auto word = static_cast<uint16_t>(bytes[2 * run] | bytes[2 * run + 1] << 8);
    EXPECT_NEAR(error(word), best, 1e-5) << run;
  }
}

TEST(Ccq, ZeroRowsAreZeroAndBrokenOnesNan) {
  std::vector<float> w(3 * 128);
  for (size_t i = 0; i < 128; ++i) w[i] = 1e-3F * static_cast<float>(i % 7);
  w[2 * 128 + 3] = INFINITY;
  for (const CodeType type : {CodeType::kCcq25, CodeType::kCcq2}) {
    const std::vector<float> values = values_of(*ccq_rows(view(w, 3, 128), type));
    EXPECT_TRUE(std::isfinite(values[3]));
    for (size_t i = 128; i < 256; ++i) EXPECT_EQ(values[i], 0);
    for (size_t i = 256; i < 384; ++i) EXPECT_TRUE(std::isnan(values[i]));
  }
}

// A width that is no multiple of 64 is that of a matrix padded with zeros.
TEST(Ccq, PadsTheLastGroup) {
  for (const int64_t cols : {1, 48, 66, 193}) {
    const int64_t padded = (cols + 63) / 64 * 64;
    std::vector<float> w = gaussian(3 * padded, 5);
    for (int64_t i = 0; i < 3 * padded; ++i) w[static_cast<size_t>(i)] *= i % padded < cols;
    const MatrixView narrow{w.data(), DType::kF32, 3, cols, padded, 1};
    for (const CodeType type : {CodeType::kCcq25, CodeType::kCcq2}) {
      const auto rows = ccq_rows(narrow, type);
      const auto whole = ccq_rows(view(w, 3, padded), type);
      const Codes a = read_all(*rows);
      const Codes b = read_all(*whole);
      EXPECT_EQ(a.scales, b.scales);
      for (int64_t n = 0; n < 3; ++n) {
        for (int64_t k = 0; k < cols; ++k)
          ASSERT_EQ(a.codes[static_cast<size_t>(n * cols + k)],
                    b.codes[static_cast<size_t>(n * padded + k)]);
      }
    }
  }
}

TEST(Ccq, RefusesTensorsThatDoNotFit) {
  const std::vector<uint16_t> words(20);
  const std::vector<bf16> super(2);
  const std::vector<uint8_t> codes(64);
  const std::vector<uint8_t> local(2);
  std::vector<float> scale(2, 120.0F);
  const std::vector<float> zp(2, 37.0F);
  const auto mid = [&](const std::vector<int64_t>& shape, DType type) {
    ccq25_rows({raw("words", type, shape, words), raw("super", DType::kBF16, {2}, super)}, 2, 64);
  };
  mid({10, 2}, DType::kU16);
  EXPECT_THROW(mid({2, 10}, DType::kU16), Error);
  EXPECT_THROW(mid({10, 2}, DType::kI32), Error);
  const auto two = [&](int64_t cols) {
    ccq2_rows({raw("codes", DType::kU8, {32, 2}, codes), raw("local", DType::kU8, {1, 2}, local),
               raw("code_scale", DType::kF32, {2}, scale), raw("code_zp", DType::kF32, {2}, zp),
               raw("super", DType::kBF16, {2}, super)},
              2, cols);
  };
  two(128);
  EXPECT_THROW(two(64), Error);
  EXPECT_THROW(two(192), Error);
  for (const float broken : {1e9F, -1e9F, INFINITY, NAN}) {
    scale[1] = broken;
    EXPECT_THROW(two(128), Error);
  }
}

}  // namespace
}  // namespace erne
