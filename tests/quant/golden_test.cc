// Every scheme against the numpy reference, bit for bit (tests/goldens/quant/make_quant.py), and
// the specification's own examples.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <limits>
#include <span>
#include <string>

#include "base/error.h"
#include "quant/ccq.h"
#include "quant/fp8.h"
#include "quant/hadamard.h"
#include "quant/kv_codes.h"
#include "quant/packing.h"
#include "quant/round_to_nearest.h"
#include "quant/samples.h"
#include "quant/w4a8.h"
#include "tensor/safetensors.h"

namespace erne {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::FloatNear;
using namespace testing_support;  // NOLINT

const SafetensorsFile& goldens() {
  static const SafetensorsFile& file = *new SafetensorsFile(SafetensorsFile::open(
      std::filesystem::path(ERNE_TESTS_DIR) / "goldens/quant/quant.safetensors"));
  return file;
}

const StoredTensor& stored(const std::string& name) {
  const StoredTensor* tensor = goldens().find(name);
  if (tensor == nullptr) throw Error(Code::kNotFound, name);
  return *tensor;
}

template <typename T>
std::vector<T> golden(const std::string& name) {
  const StoredTensor& tensor = stored(name);
  EXPECT_EQ(dtype_bytes(tensor.info.dtype), sizeof(T)) << name;
  std::vector<T> values(tensor.bytes / sizeof(T));
  std::memcpy(values.data(), tensor.data, tensor.bytes);
  return values;
}

MatrixView matrix(const std::string& name) {
  const StoredTensor& tensor = stored(name);
  return {tensor.data,          DType::kF32,          tensor.info.shape[0],
          tensor.info.shape[1], tensor.info.shape[1], 1};
}

std::vector<int8_t> as_signed(const std::vector<uint8_t>& bytes) {
  return {bytes.begin(), bytes.end()};
}

std::vector<bf16> as_bf16(const std::vector<float>& values) {
  std::vector<bf16> rounded;
  for (const float x : values) rounded.push_back(to_bf16(x));
  return rounded;
}

template <typename T>
RawTensor raw(const char* name, DType dtype, std::vector<int64_t> shape, const std::vector<T>& v) {
  return {name, dtype, std::move(shape), std::as_bytes(std::span(v))};
}

TEST(QuantGolden, RoundToNearest) {
  for (const int bits : {8, 4}) {
    for (const int group : {0, 64, 128}) {
      const std::string name = fmt::format("wint{}.{}", bits, group);
      const Codes all = read_all(
          *round_to_nearest(matrix("w"), {bits == 8 ? CodeType::kInt8 : CodeType::kInt4, group}));
      EXPECT_EQ(all.codes, golden<int8_t>(name + ".codes")) << name;
      EXPECT_EQ(all.scales, golden<float>(name + ".scales")) << name;
    }
    const std::vector<int8_t> codes = golden<int8_t>(fmt::format("wint{}.0.codes", bits));
    const std::vector<uint8_t> packed = golden<uint8_t>(fmt::format("sm80.{}", bits));
    EXPECT_EQ(paddle_sm80_pack(codes, 16, 256, bits), packed);
    EXPECT_EQ(paddle_sm80_unpack(packed, 16, 256, bits), codes);
  }
}

TEST(QuantGolden, Fp8Codes) {
  const std::vector<float> x = golden<float>("fp8.x");
  const std::vector<uint8_t> narrow = golden<uint8_t>("fp8.e4m3");
  const std::vector<uint8_t> wide = golden<uint8_t>("fp8.e5m2");
  for (size_t i = 0; i < x.size(); ++i) {
    ASSERT_EQ(fp8_encode(x[i]), narrow[i]) << x[i];
    ASSERT_EQ(fp8_encode(x[i], Fp8Type::kE5m2), wide[i]) << x[i];
  }
  const float spec[]{1, .3F, 448, 1000, 17, 19, 0x1p-10F};
  const uint8_t codes[]{0x38, 0x2A, 0x7E, 0x7E, 0x58, 0x5A, 0};
  for (size_t i = 0; i < 7; ++i) EXPECT_EQ(fp8_encode(spec[i]), codes[i]);
  const float more[]{.1F, -.2F, .3F, -1, 2.5F, -3.3F, 0, 7};
  const uint8_t more_e4m3[]{0x1D, 0xA5, 0x2A, 0xB8, 0x42, 0xC5, 0x00, 0x4E};
  const uint8_t more_e5m2[]{0x2E, 0xB2, 0x35, 0xBC, 0x41, 0xC3, 0x00, 0x47};
  for (size_t i = 0; i < 8; ++i) {
    EXPECT_EQ(fp8_encode(more[i]), more_e4m3[i]);
    EXPECT_EQ(fp8_encode(more[i], Fp8Type::kE5m2), more_e5m2[i]);
  }
  EXPECT_EQ(fp8_decode(0x7E), 448);
  EXPECT_EQ(fp8_decode(0x7B, Fp8Type::kE5m2), 57344);
  EXPECT_EQ(fp8_decode(1), 0x1p-9F);
  EXPECT_TRUE(std::isnan(fp8_decode(0x7F)) && std::isnan(fp8_decode(0xFF)));
  EXPECT_TRUE(std::isinf(fp8_decode(0x7C, Fp8Type::kE5m2)));
  EXPECT_EQ(fp8_encode(std::numeric_limits<float>::quiet_NaN()) & 0x7F, 0x7F);
  EXPECT_EQ(fp8_encode(-std::numeric_limits<float>::infinity()), 0xFE);
}

TEST(QuantGolden, Fp8EveryCodeComesBack) {
  for (const Fp8Type type : {Fp8Type::kE4m3, Fp8Type::kE5m2}) {
    for (int code = 0; code < 256; ++code) {
      const float value = fp8_decode(static_cast<uint8_t>(code), type);
      if (!std::isfinite(value)) continue;
      EXPECT_EQ(fp8_encode(value, type), code);
    }
  }
}

TEST(QuantGolden, Fp8Matrices) {
  const auto block = fp8_rows(matrix("ragged"), Fp8Scaling::kBlock);
  const Codes codes = read_all(*block);
  EXPECT_EQ(codes.codes, as_signed(golden<uint8_t>("block.codes")));
  const std::vector<float> scales = golden<float>("block.scales");  // [2, 1]
  for (size_t n = 0; n < 130; ++n) ASSERT_EQ(codes.scales[n], scales[n / 128]) << n;
  EXPECT_EQ(block->format(), (CodeFormat{CodeType::kFp8, 128, false, DType::kF32}));

  const std::vector<float> dense = golden<float>("dense");
  std::vector<uint8_t> bytes(dense.size());
  std::vector<float> activation(dense.size() / 128);
  for (size_t n = 0; n < 16; ++n) {
    fp8_activation(&dense[n * 256], 256, &bytes[n * 256], &activation[n * 2]);
  }
  EXPECT_EQ(bytes, golden<uint8_t>("activation.codes"));
  EXPECT_EQ(activation, golden<float>("activation.scales"));

  const Codes rotated = read_all(*fp8_rotated_rows(matrix("dense"), 32));
  EXPECT_EQ(rotated.codes, as_signed(golden<uint8_t>("rotated.codes")));
  EXPECT_EQ(rotated.scales[15], golden<float>("rotated.scale")[0] / 32);
  for (const Fp8Scaling scaling : {Fp8Scaling::kBlock, Fp8Scaling::kRow, Fp8Scaling::kTensor}) {
    const auto rows = fp8_rows(matrix("dense"), scaling);
    EXPECT_GT(snr(dense, values_of(*rows, kFp8E4m3.data())), 31);
  }
}

TEST(QuantGolden, Fp8ActivationOfTheSpecification) {
  std::vector<float> x(128);
  for (size_t i = 0; i < 128; ++i) x[i] = (static_cast<float>(i) - 64) / 10;
  uint8_t codes[128];
  float scale = 0;
  fp8_activation(x.data(), 128, codes, &scale);
  EXPECT_EQ(scale, 6.4F / 448);
  EXPECT_THAT(std::vector<int>(codes, codes + 4), ElementsAre(254, 254, 254, 253));
  EXPECT_THAT(std::vector<int>(codes + 124, codes + 128), ElementsAre(125, 125, 126, 126));
}

TEST(QuantGolden, Hadamard) {
  float four[]{1, 2, 3, 4};
  hadamard(four, 4, 4);
  EXPECT_THAT(four, ElementsAre(10, -2, -4, 0));
  for (const int block : {32, 128}) {
    std::vector<float> x = golden<float>("dense");
    hadamard(x.data(), static_cast<int64_t>(x.size()), block);
    EXPECT_EQ(x, golden<float>(fmt::format("hadamard.{}", block)));
  }
  EXPECT_THROW(check_rotation(256, 48), Error);
  EXPECT_THROW(check_rotation(100, 32), Error);
  EXPECT_THROW(check_rotation(100, 0), Error);
}

// x H times H^T W / n is x W: the rotated rows' values times the rotated input.
TEST(QuantGolden, RotatedProductsStayTheSame) {
  const std::vector<float> w = golden<float>("dense");
  std::vector<float> x = golden<float>("x");
  auto product = [](const std::vector<float>& a, const std::vector<float>& b) {
    std::vector<float> y;
    for (size_t t = 0; t < 4; ++t) {
      for (size_t n = 0; n < 16; ++n) {
        double sum = 0;
        for (size_t k = 0; k < 256; ++k) sum += double{a[t * 256 + k]} * b[n * 256 + k];
        y.push_back(static_cast<float>(sum));
      }
    }
    return y;
  };
  const std::vector<float> exact = product(x, w);
  hadamard(x.data(), static_cast<int64_t>(x.size()), 32);
  const auto fp8 = fp8_rotated_rows(matrix("dense"), 32);
  EXPECT_GT(snr(exact, product(x, values_of(*fp8, kFp8E4m3.data()))), 28);
  EXPECT_GT(snr(exact, product(x, values_of(*w4a8_rows(matrix("dense"), 32)))), 15);
}

TEST(QuantGolden, W4a8) {
  for (const int block : {1, 128}) {
    const float amax = golden<float>(fmt::format("w4a8.{}.amax", block))[0];
    EXPECT_EQ(w4a8_linear(golden<float>("x").data(), 4, matrix("dense"), amax, block),
              golden<float>(fmt::format("w4a8.{}.y", block)));
  }
  const std::vector<float> w{.1F, -.2F, .35F, .05F, -.7F, .6F, .02F, -.9F};
  const float x[]{1, -2, .5F, 3};
  EXPECT_THAT(w4a8_linear(x, 1, {w.data(), DType::kF32, 2, 4, 1, 2}, 3, 1),
              ElementsAre(FloatNear(-1.0511811F, 1e-6F), FloatNear(-2.6362205F, 1e-6F)));
}

TEST(QuantGolden, KvCodes) {
  const std::vector<float> x = golden<float>("kv.x");
  const std::vector<float> amax = golden<float>("kv.amax");
  std::vector<KvScale> scales;
  for (const float a : amax) scales.push_back(kv_scale(a, 127));
  std::vector<uint8_t> codes(x.size());
  std::vector<float> dynamic(6);
  std::vector<uint8_t> dynamic_codes(x.size());
  for (size_t t = 0; t < 6; ++t) {
    kv_int8_encode(&x[t * 64], 64, scales.data(), nullptr, &codes[t * 64]);
    dynamic[t] = kv_fp8_dynamic_encode(&x[t * 64], 64, &dynamic_codes[t * 64]);
  }
  EXPECT_EQ(codes, golden<uint8_t>("kv.int8"));
  std::vector<float> outs;
  for (const KvScale& s : scales) outs.push_back(s.out);
  EXPECT_EQ(outs, golden<float>("kv.out"));
  EXPECT_EQ(dynamic_codes, golden<uint8_t>("kv.dynamic"));
  EXPECT_EQ(dynamic, golden<float>("kv.dynamic.scales"));
}

TEST(QuantGolden, KvCodesOfTheSpecification) {
  const float x[]{1, -2, .5F};
  const KvScale scales[]{kv_scale(2, 127), kv_scale(4, 127), kv_scale(.5F, 127)};
  uint8_t codes[3];
  kv_int8_encode(x, 3, scales, nullptr, codes);
  EXPECT_THAT(codes, ElementsAre(192, 64, 255));
  float back[3];
  kv_int8_decode(codes, 3, scales, nullptr, back);
  EXPECT_THAT(back, ElementsAre(1.0078125F, -2.015625F, .49996948F));
}

TEST(QuantGolden, KvRoundTripsWithZeroPoints) {
  const std::vector<float> x = gaussian(64, 5, 1);
  const std::vector<KvScale> wide(64, kv_scale(4, 127));
  const std::vector<KvScale> narrow(64, kv_scale(4, 7));
  const std::vector<KvScale> fp8(64, kv_scale(4, 448));
  std::vector<float> zeros(64);
  for (size_t i = 0; i < 64; ++i) zeros[i] = static_cast<float>(i % 3) - 1;
  std::vector<uint8_t> codes(64);
  std::vector<float> back(64);
  kv_int8_encode(x.data(), 64, wide.data(), zeros.data(), codes.data());
  kv_int8_decode(codes.data(), 64, wide.data(), zeros.data(), back.data());
  for (size_t i = 0; i < 64; ++i) EXPECT_NEAR(back[i], x[i], 0.04) << i;
  kv_int4_encode(x.data(), 64, narrow.data(), zeros.data(), codes.data());
  kv_int4_decode(codes.data(), 64, narrow.data(), zeros.data(), back.data());
  for (size_t i = 0; i < 64; ++i) EXPECT_NEAR(back[i], x[i], 0.3) << i;
  kv_fp8_encode(x.data(), 64, fp8.data(), codes.data());
  kv_fp8_decode(codes.data(), 64, fp8.data(), back.data());
  EXPECT_GT(snr(x, back), 28);
  const float scale = kv_fp8_dynamic_encode(x.data(), 64, codes.data());
  kv_fp8_dynamic_decode(codes.data(), 64, scale, back.data());
  EXPECT_GT(snr(x, back), 30);
  const KvScale dead = kv_scale(0, 127);
  EXPECT_EQ(dead.factor, 0);
  const float odd[]{std::numeric_limits<float>::quiet_NaN(), 1e30F, -1e30F};
  const KvScale one[]{{1, 1}, {1, 1}, {1, 1}};
  kv_int8_encode(odd, 3, one, nullptr, codes.data());
  EXPECT_THAT(std::vector<int>(codes.begin(), codes.begin() + 3), ElementsAre(128, 255, 1));
}

TEST(QuantGolden, Ccq) {
  const auto words = golden<uint16_t>("ccq25.words");
  const auto codes = golden<uint8_t>("ccq2.codes");
  const auto local = golden<uint8_t>("ccq2.local");
  const auto code_scale = golden<float>("ccq2.code_scale");
  const auto code_zp = golden<float>("ccq2.code_zp");
  const std::vector<bf16> super25 = as_bf16(golden<float>("ccq25.super"));
  const std::vector<bf16> super2 = as_bf16(golden<float>("ccq2.super"));
  const auto mid = ccq25_rows(
      {raw("words", DType::kU16, {40, 16}, words), raw("super", DType::kBF16, {16}, super25)}, 16,
      256);
  EXPECT_EQ(values_of(*mid), golden<float>("ccq25.values"));
  EXPECT_EQ(mid->format(), (CodeFormat{CodeType::kCcq25, 64, false, DType::kF32}));
  const auto two = ccq2_rows(
      {raw("codes", DType::kU8, {64, 16}, codes), raw("local", DType::kU8, {2, 16}, local),
       raw("code_scale", DType::kF32, {16}, code_scale), raw("code_zp", DType::kF32, {16}, code_zp),
       raw("super", DType::kBF16, {16}, super2)},
      16, 256);
  EXPECT_EQ(values_of(*two), golden<float>("ccq2.values"));
  EXPECT_EQ(two->format(), (CodeFormat{CodeType::kCcq2, 64, false, DType::kF32}));

  const std::vector<float> w = golden<float>("dense");
  const std::vector<float> reference = golden<float>("ccq.snr");
  EXPECT_GT(snr(w, values_of(*ccq_rows(matrix("dense"), CodeType::kCcq25))), reference[0] - 0.1);
  EXPECT_GT(snr(w, values_of(*ccq_rows(matrix("dense"), CodeType::kCcq2))), reference[1] - 0.1);
}

TEST(QuantGolden, Packings) {
  const std::vector<uint8_t> q = golden<uint8_t>("pack.codes");
  EXPECT_EQ(awq_pack(q), golden<uint32_t>("pack.awq"));
  EXPECT_EQ(pack_bits(q, 4), golden<uint32_t>("pack.words"));
  EXPECT_EQ(pack_nibbles(as_signed(q)), golden<uint8_t>("pack.nibbles"));
  EXPECT_EQ(awq_unpack(awq_pack(q)), q);
}

}  // namespace
}  // namespace erne
