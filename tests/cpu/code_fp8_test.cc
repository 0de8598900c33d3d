// linear() with e4m3fn weights on every instruction set: every code exactly, sums against double
// precision within what f32 chains lose, and bit for bit against itself under other batches and
// thread counts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "code_samples.h"
#include "cpu/cpu_device.h"

namespace erne::test {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

CodeFormat fp8(int32_t group, DType scales) { return {CodeType::kFp8, group, false, scales}; }

/// Rows of the codes given, or of random finite ones.
class Fp8Codes final : public CodeRows {
 public:
  Fp8Codes(CodeFormat format, int64_t rows, int64_t cols, uint32_t seed)
      : CodeRows(format, rows, cols),
        codes(static_cast<size_t>(rows * cols)),
        scales(static_cast<size_t>(rows * format.groups(cols))) {
    std::mt19937 engine(seed);
    std::uniform_int_distribution<int> magnitude(0, 0x7E), sign(0, 1);
    for (uint8_t& code : codes) code = static_cast<uint8_t>(magnitude(engine) | sign(engine) << 7);
    std::uniform_real_distribution<float> values(0.001F, 0.02F);
    for (float& scale : scales) {
      const float value = values(engine);
      uint32_t memory = 0;
      convert_from_f32(&value, format.scale_type, &memory, 1);
      convert_to_f32(&memory, format.scale_type, &scale, 1);
    }
  }
  void read(int64_t row, int8_t* to, float* to_scales, float*) const override {
    std::copy_n(codes.begin() + row * cols(), cols(), reinterpret_cast<uint8_t*>(to));
    const int64_t groups = format().groups(cols());
    std::copy_n(scales.begin() + row * groups, groups, to_scales);
  }
  double value(int64_t row, int64_t col) const {
    const int64_t group = format().group == 0 ? 0 : col / format().group;
    return double{scales[static_cast<size_t>(row * format().groups(cols()) + group)]} *
           double{to_f32(f8e4m3{codes[static_cast<size_t>(row * cols() + col)]})};
  }

  std::vector<uint8_t> codes;
  std::vector<float> scales;
};

Linear pack(Device& device, const CodeRows& w, DType dtype = DType::kBF16,
            Inputs inputs = Inputs::kFull, std::span<const float> bias = {}) {
  const CodeRows* blocks[] = {&w};
  return device.pack_codes(blocks, dtype, inputs, LinearKind::kPlain, bias);
}

std::vector<float> multiply(Device& device, const Tensor& x, const Linear& w) {
  const Values y(DType::kF32, {x.dim(0), w.n});
  device.linear(x, w, Epilogue::kStore, y.tensor());
  return y.floats();
}

class CodeFp8Test : public testing::TestWithParam<std::string> {};

TEST_P(CodeFp8Test, EveryFiniteCodeIsExact) {
  const auto device = make_cpu_device(1, GetParam());
  for (const int32_t group : {0, 32}) {
    for (const int64_t m : {1, 7, 20}) {  // in registers and in memory
      Fp8Codes w(fp8(group, DType::kF32), 4 * 256, 67, 1);
      std::fill(w.codes.begin(), w.codes.end(), uint8_t{0});
      std::fill(w.scales.begin(), w.scales.end(), 1.0F);
      // Row n holds code n % 256 at one of the four places of the fourth group, or in the last.
      const auto column = [](int64_t n) { return n / 256 == 3 ? 66 : 12 + n / 256; };
      for (int64_t n = 0; n < w.rows(); ++n)
        w.codes[static_cast<size_t>(n * w.cols() + column(n))] = static_cast<uint8_t>(n);
      const Values x(DType::kBF16, {m, 67}, std::vector<float>(static_cast<size_t>(m * 67), 2.0F));
      const std::vector<float> y = multiply(*device, x.tensor(), pack(*device, w));
      for (int64_t i = 0; i < m * w.rows(); ++i) {
        const float value = to_f32(f8e4m3{static_cast<uint8_t>(i % 256)});
        if (std::isnan(value)) {
          ASSERT_TRUE(std::isnan(y[static_cast<size_t>(i)])) << i;
        } else {
          ASSERT_EQ(y[static_cast<size_t>(i)], 2 * value) << i;
        }
      }
    }
  }
}

/// A chain of a group of k terms rounds each of them and each sum once (vdpbf16ps: pairs, no more
/// often), 2^-24 of at most the terms' magnitudes; every group adds the roundings of its scaled
/// sum.
TEST_P(CodeFp8Test, WithinTheBoundOfF32ChainsOverOddShapes) {
  const auto device = make_cpu_device(2, GetParam());
  uint32_t seed = 0;
  for (const int32_t group : {0, 32, 64, 128}) {
    for (const DType scales : {DType::kF32, DType::kBF16, DType::kF16}) {
      for (const DType dtype : {DType::kF32, DType::kBF16}) {
        for (const auto& [m, n, k] : std::vector<std::array<int64_t, 3>>{{1, 1, 1},
                                                                         {1, 33, 2},
                                                                         {2, 17, 31},
                                                                         {3, 40, 64},
                                                                         {4, 65, 130},
                                                                         {8, 31, 129},
                                                                         {13, 96, 203},
                                                                         {37, 50, 96},
                                                                         {1, 100, 1101}}) {
          SCOPED_TRACE(testing::Message()
                       << "group " << group << ' ' << dtype_name(scales) << ' ' << dtype_name(dtype)
                       << " M " << m << " N " << n << " K " << k);
          const Values x(dtype, {m, k}, random_values(m * k, ++seed));
          const Values rounded(DType::kBF16, {m, k}, x.floats());  // what a kernel multiplies
          const Fp8Codes w(fp8(group, scales), n, k, ++seed);
          const Linear linear = pack(*device, w, dtype);
          EXPECT_EQ(linear.data.size(), device->code_bytes(n, k, w.format(), LinearKind::kPlain));
          const std::vector<float> y = multiply(*device, x.tensor(), linear);
          ASSERT_EQ(y, multiply(*device, x.tensor(), pack(*device, w, dtype, Inputs::kInt8)));
          const int64_t chain = group == 0 ? k : std::min<int64_t>(k, group);
          const double roundings = static_cast<double>(2 * chain + 2 * w.format().groups(k));
          const std::vector<float> values = rounded.floats();
          for (int64_t i = 0; i < m * n; ++i) {
            double sum = 0, terms = 0;
            for (int64_t j = 0; j < k; ++j) {
              const double term = values[static_cast<size_t>(i / n * k + j)] * w.value(i % n, j);
              sum += term;
              terms += std::fabs(term);
            }
            ASSERT_LE(std::fabs(y[static_cast<size_t>(i)] - sum), terms * roundings * 0x1p-24) << i;
          }
        }
      }
    }
  }
}

TEST_P(CodeFp8Test, RowsAreTheSameBitsInAnyBatchAndWithAnyThreads) {
  const int64_t m = 431, n = 210, k = 335;  // more rows than any kernel takes at once
  for (const int32_t group : {0, 32, 128}) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      SCOPED_TRACE(testing::Message() << "group " << group << ' ' << dtype_name(dtype));
      const Values x(dtype, {m, k}, random_values(m * k, 7));
      const Fp8Codes w(fp8(group, DType::kBF16), n, k, 8);
      std::vector<float> whole;
      for (const int threads : {1, 2, 3, 5}) {
        const auto device = make_cpu_device(threads, GetParam());
        const Linear linear = pack(*device, w, dtype);
        const std::vector<float> y = multiply(*device, x.tensor(), linear);
        if (whole.empty()) whole = y;
        ASSERT_EQ(y, whole) << threads << " threads";
        if (threads > 2) continue;
        const Values parts(DType::kF32, {m, n});
        for (int64_t row = 0, count = 1; row < m; row += count, ++count) {
          const int64_t stop = std::min(m, row + count);
          device->linear(x.rows(row, stop), linear, Epilogue::kStore, parts.rows(row, stop));
        }
        ASSERT_EQ(parts.floats(), whole) << threads << " threads";
      }
    }
  }
}

TEST_P(CodeFp8Test, BiasGateUpAndResidualFollowTheSums) {
  const auto device = make_cpu_device(2, GetParam());
  const int64_t half = 45, k = 150;
  const Fp8Codes w(fp8(64, DType::kBF16), 2 * half, k, 1);
  const SomeRows gate(w, 0, half), up(w, half, 2 * half);
  const CodeRows* stacked[] = {&gate, &up};
  const std::vector<float> bias = random_values(2 * half, 2);
  const Linear gated =
      device->pack_codes(stacked, DType::kBF16, Inputs::kFull, LinearKind::kGateUp, bias);
  EXPECT_EQ(gated.data.size(), device->code_bytes(2 * half, k, w.format(), LinearKind::kGateUp));
  const Linear biased = pack(*device, w, DType::kBF16, Inputs::kFull, bias);
  for (const int64_t m : {1, 4, 14, 70}) {
    SCOPED_TRACE(m);
    const Values x(DType::kBF16, {m, k}, random_values(m * k, 3));
    std::vector<float> sums = multiply(*device, x.tensor(), pack(*device, w));
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += bias[i % bias.size()];
    EXPECT_EQ(multiply(*device, x.tensor(), biased), sums);
    std::vector<double> products;
    for (int64_t i = 0; i < m * half; ++i) {
      const auto at = static_cast<size_t>(i / half * 2 * half + i % half);
      const double g = sums[at];
      products.push_back(g / (1 + std::exp(-g)) * sums[at + static_cast<size_t>(half)]);
    }
    const Values product(DType::kF32, {m, half});
    device->linear(x.tensor(), gated, Epilogue::kSiluMul, product.tensor());
    EXPECT_LE(relative_l2(product.floats(), products), tolerance(DType::kF32));
    const Values residual(DType::kF32, {m, 2 * half}, std::vector<float>(sums.size(), 0.5F));
    device->linear(x.tensor(), biased, Epilogue::kAdd, residual.tensor());
    for (float& v : sums) v += 0.5F;
    EXPECT_EQ(residual.floats(), sums);
  }
}

TEST_P(CodeFp8Test, NanStaysInItsColumnOrItsRow) {
  const auto device = make_cpu_device(1, GetParam());
  const int64_t n = 37, k = 150;
  for (const int32_t group : {0, 32}) {
    for (const DType scales : {DType::kF32, DType::kBF16, DType::kF16}) {
      for (const int64_t m : {3, 15}) {
        Fp8Codes w(fp8(group, scales), n, k, 1);
        std::vector<float> x = random_values(m * k, 2);
        const std::vector<float> before =
            multiply(*device, Values(DType::kBF16, {m, k}, x).tensor(), pack(*device, w));
        w.codes[5 * k + 149] = 0x7F;
        w.codes[20 * k + 33] = 0xFF;
        x[0 * k + 33] = 0;  // a NaN times zero is one too
        x[1 * k + 7] = kNan;
        x[2 * k + 8] = std::numeric_limits<float>::infinity();
        const std::vector<float> after =
            multiply(*device, Values(DType::kBF16, {m, k}, x).tensor(), pack(*device, w));
        for (int64_t i = 0; i < m * n; ++i) {
          const float value = after[static_cast<size_t>(i)];
          if (i % n == 5 || i % n == 20 || i / n == 1) {
            ASSERT_TRUE(std::isnan(value)) << i;
          } else if (i / n == 2) {
            ASSERT_FALSE(std::isfinite(value)) << i;
          } else if (i / n > 2) {
            ASSERT_EQ(value, before[static_cast<size_t>(i)]) << i;
          } else {
            ASSERT_TRUE(std::isfinite(value)) << i;
          }
        }
      }
    }
  }
}

TEST_P(CodeFp8Test, ExpertsMatchLinears) {
  const auto device = make_cpu_device(2, GetParam());
  const int64_t tokens = 9, n = 50, k = 70, experts = 4;
  const Values x(DType::kBF16, {tokens, k}, random_values(tokens * k, 1));
  Experts weights;
  for (uint32_t e = 0; e < experts; ++e)
    weights.linears.push_back(pack(*device, Fp8Codes(fp8(32, DType::kF32), n, k, e)));
  std::vector<int32_t> start = {0, 4, 4, 5, 9};
  std::vector<int32_t> token = {0, 3, 4, 8, 1, 2, 5, 6, 7};
  Routing routing;
  routing.num_tokens = tokens;
  routing.top_k = 1;
  routing.num_experts = experts;
  routing.expert_start = start.data();
  routing.slot_token = token.data();
  const Values y(DType::kF32, {tokens, n});
  device->expert_linear(x.tensor(), ExpertRows::kByToken, weights, routing, Epilogue::kStore,
                        y.tensor());
  const std::vector<float> all = y.floats();
  for (int64_t s = 0; s < tokens; ++s) {
    const size_t e = s < 4 ? 0 : s < 5 ? 2 : 3;
    const int64_t row = token[static_cast<size_t>(s)];
    ASSERT_EQ(std::vector<float>(all.begin() + s * n, all.begin() + (s + 1) * n),
              multiply(*device, x.rows(row, row + 1), weights.linears[e]))
        << "slot " << s;
  }
}

TEST_P(CodeFp8Test, RefusesMinimaAndOtherGroups) {
  const auto device = make_cpu_device(1, GetParam());
  for (const CodeFormat& format : {CodeFormat{CodeType::kFp8, 32, true, DType::kF32},
                                   fp8(16, DType::kF32), fp8(32, DType::kI32)}) {
    EXPECT_THROW(device->code_bytes(8, 8, format, LinearKind::kPlain), Error);
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, CodeFp8Test, testing::ValuesIn(available_isas()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace erne::test
