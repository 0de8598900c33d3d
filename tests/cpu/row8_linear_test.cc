// linear() with int8 inputs that have one scale a row, and with rotated inputs: bit for bit the
// emulation in quant/ on every instruction set, in any batch and with any number of threads.
#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "code_samples.h"
#include "cpu/cpu_device.h"
#include "quant/fp8.h"
#include "quant/hadamard.h"
#include "quant/round_to_nearest.h"
#include "quant/w4a8.h"

namespace erne::test {
namespace {

MatrixView view(const std::vector<float>& w, int64_t rows, int64_t cols) {
  return {w.data(), DType::kF32, rows, cols, cols, 1};
}

/// Other rows with a static range of inputs.
class WithRange final : public CodeRows {
 public:
  WithRange(const CodeRows& rows, float absmax)
      : CodeRows(rows.format(), rows.rows(), rows.cols()), rows_(rows), absmax_(absmax) {}
  void read(int64_t row, int8_t* codes, float* scales, float* mins) const override {
    rows_.read(row, codes, scales, mins);
  }
  float input_absmax() const override { return absmax_; }

 private:
  const CodeRows& rows_;
  float absmax_;
};

Linear pack(Device& device, const CodeRows& w, DType dtype, Inputs inputs) {
  const CodeRows* blocks[] = {&w};
  return device.pack_codes(blocks, dtype, inputs, LinearKind::kPlain, {});
}

std::vector<float> product(Device& device, const Values& x, int64_t m, const Linear& w) {
  const Values y(DType::kF32, {m, w.n});
  device.linear(x.tensor(), w, Epilogue::kStore, y.tensor());
  return y.floats();
}

class Row8Linear : public testing::TestWithParam<std::string> {};

TEST_P(Row8Linear, IsTheEmulatedW4a8ProductBitForBit) {
  const auto device = make_cpu_device(2, GetParam());
  uint32_t seed = 0;
  for (const auto& [m, n, k] : std::vector<std::tuple<int64_t, int64_t, int64_t>>{{1, 5, 128},
                                                                                  {1, 100, 1536},
                                                                                  {2, 70, 576},
                                                                                  {3, 33, 256},
                                                                                  {13, 40, 1152},
                                                                                  {50, 96, 384}}) {
    const std::vector<float> numbers = random_values(n * k, ++seed);
    for (const int32_t rotation : {1, 32, 64, 128}) {
      if (k % rotation != 0) continue;
      for (const DType dtype : {DType::kF32, DType::kBF16}) {
        const Values x(dtype, {m, k}, random_values(m * k, ++seed));
        for (const float amax : {0.0F, 2.5F * std::sqrt(static_cast<float>(rotation))}) {
          SCOPED_TRACE(testing::Message() << m << " x " << n << " x " << k << " rotation "
                                          << rotation << " absmax " << amax);
          const auto w4a8 = w4a8_rows(view(numbers, n, k), rotation);
          const WithRange ranged(*w4a8, amax);
          const std::vector<float> y =
              product(*device, x, m, pack(*device, ranged, dtype, Inputs::kFull));
          ASSERT_EQ(y, row_scaled_product(x.floats().data(), m, *w4a8, amax));
          if (amax == 0) continue;
          // And the formula of the specification, up to the order of its factors.
          const std::vector<float> formula =
              w4a8_linear(x.floats().data(), m, view(numbers, n, k), amax, rotation);
          for (size_t i = 0; i < y.size(); ++i)
            ASSERT_NEAR(y[i], formula[i], 1e-6 * std::fabs(formula[i]) + 1e-12);
        }
      }
    }
  }
}

TEST_P(Row8Linear, EightBitWeightsToo) {
  const auto device = make_cpu_device(2, GetParam());
  const int64_t m = 29, n = 70, k = 700;
  const std::vector<float> numbers = random_values(n * k, 1);
  const auto rows = round_to_nearest(view(numbers, n, k), {CodeType::kInt8, 0});
  const Values x(DType::kBF16, {m, k}, random_values(m * k, 2));
  EXPECT_EQ(product(*device, x, m, pack(*device, *rows, DType::kBF16, Inputs::kInt8Row)),
            row_scaled_product(x.floats().data(), m, *rows, 0));
}

TEST_P(Row8Linear, RowsAreTheSameBitsInAnyBatchAndWithAnyThreads) {
  const int64_t m = 431, n = 210, k = 384;
  const std::vector<float> numbers = random_values(n * k, 3);
  const auto w4a8 = w4a8_rows(view(numbers, n, k), 128);
  const Values x(DType::kBF16, {m, k}, random_values(m * k, 4));
  std::vector<float> whole;
  for (const int threads : {1, 2, 3}) {
    const auto device = make_cpu_device(threads, GetParam());
    const Linear linear = pack(*device, *w4a8, DType::kBF16, Inputs::kFull);
    if (whole.empty()) whole = product(*device, x, m, linear);
    ASSERT_EQ(product(*device, x, m, linear), whole) << threads << " threads";
    const Values parts(DType::kF32, {m, n});
    for (int64_t row = 0, count = 1; row < m; row += count, ++count) {
      const int64_t stop = std::min(m, row + count);
      device->linear(x.rows(row, stop), linear, Epilogue::kStore, parts.rows(row, stop));
    }
    ASSERT_EQ(parts.floats(), whole) << threads << " threads";
  }
}

TEST_P(Row8Linear, RowsThatAreNotFiniteGiveNanAndZerosZero) {
  const auto device = make_cpu_device(1, GetParam());
  const int64_t m = 4, n = 37, k = 256;
  const std::vector<float> numbers = random_values(n * k, 5);
  const auto rows = w4a8_rows(view(numbers, n, k), 1);
  std::vector<float> x = random_values(m * k, 6);
  x[1 * k + 200] = NAN;
  x[2 * k + 7] = -INFINITY;
  std::fill_n(x.begin() + 3 * k, k, 0.0F);
  const std::vector<float> y = product(*device, Values(DType::kF32, {m, k}, x), m,
                                       pack(*device, *rows, DType::kF32, Inputs::kFull));
  for (int64_t i = 0; i < n; ++i) {
    EXPECT_TRUE(std::isfinite(y[static_cast<size_t>(i)]));
    EXPECT_TRUE(std::isnan(y[static_cast<size_t>(n + i)]));
    EXPECT_TRUE(std::isnan(y[static_cast<size_t>(2 * n + i)]));
    EXPECT_EQ(y[static_cast<size_t>(3 * n + i)], 0);
  }
}

TEST_P(Row8Linear, RefusesWhatHasNoRowScale) {
  const auto device = make_cpu_device(1, GetParam());
  const RandomCodes grouped({CodeType::kInt4, 32, false, DType::kF32}, 8, 64, 1);
  EXPECT_THROW(pack(*device, grouped, DType::kF32, Inputs::kInt8Row), Error);
  const RandomCodes odd({CodeType::kInt8, 0, false, DType::kF32, 64}, 8, 96, 1);
  EXPECT_THROW(pack(*device, odd, DType::kF32, Inputs::kFull), Error);
}

// The same codes, with the rotation in the device or before it; and close to the numbers' product.
TEST_P(Row8Linear, RotatesTheInputsOfAnyType) {
  const auto device = make_cpu_device(2, GetParam());
  const int64_t m = 5, n = 40, k = 512;
  const std::vector<float> numbers = random_values(n * k, 7);
  const auto rows = fp8_rotated_rows(view(numbers, n, k), 32);
  const Values x(DType::kF32, {m, k}, random_values(m * k, 9));
  std::vector<float> rotated = x.floats();
  hadamard(rotated.data(), m * k, 32);
  class Unrotated final : public CodeRows {
   public:
    explicit Unrotated(const CodeRows& rows)
        : CodeRows({CodeType::kFp8, 0, false, DType::kF32}, rows.rows(), rows.cols()),
          rows_(rows) {}
    void read(int64_t row, int8_t* codes, float* scales, float* mins) const override {
      rows_.read(row, codes, scales, mins);
    }

   private:
    const CodeRows& rows_;
  };
  const Unrotated plain(*rows);
  const std::vector<float> y =
      product(*device, x, m, pack(*device, *rows, DType::kF32, Inputs::kFull));
  EXPECT_EQ(y, product(*device, Values(DType::kF32, {m, k}, rotated), m,
                       pack(*device, plain, DType::kF32, Inputs::kFull)));
  std::vector<double> exact;
  for (int64_t i = 0; i < m * n; ++i) {
    double sum = 0;
    for (int64_t j = 0; j < k; ++j)
      sum += double{x.floats()[static_cast<size_t>(i / n * k + j)]} *
             numbers[static_cast<size_t>(i % n * k + j)];
    exact.push_back(sum);
  }
  EXPECT_LT(relative_l2(y, exact), 0.05);
}

INSTANTIATE_TEST_SUITE_P(Isas, Row8Linear, testing::ValuesIn(available_isas()));

}  // namespace
}  // namespace erne::test
