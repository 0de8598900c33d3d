// linear() on every instruction set against a double-precision product, over odd shapes, and bit
// for bit against itself under other batches and thread counts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

#include "cpu/cpu_device.h"
#include "samples.h"

namespace erne::test {
namespace {

struct Case {
  int64_t m, n, k;
};

std::vector<double> product(const std::vector<float>& x, const std::vector<float>& w,
                            const Case& c) {
  std::vector<double> y(static_cast<size_t>(c.m * c.n));
  for (int64_t m = 0; m < c.m; ++m) {
    for (int64_t n = 0; n < c.n; ++n) {
      double sum = 0;
      for (int64_t k = 0; k < c.k; ++k) {
        sum += double{x[static_cast<size_t>(m * c.k + k)]} *
               double{w[static_cast<size_t>(n * c.k + k)]};
      }
      y[static_cast<size_t>(m * c.n + n)] = sum;
    }
  }
  return y;
}

double silu(double x) { return x / (1 + std::exp(-x)); }

class LinearTest : public testing::TestWithParam<std::tuple<std::string, DType>> {
 protected:
  std::string isa() const { return std::get<0>(GetParam()); }
  DType dtype() const { return std::get<1>(GetParam()); }
};

TEST_P(LinearTest, PlainMatchesDoubleOverOddShapes) {
  const auto device = make_cpu_device(2, isa());
  for (const Case c : {Case{1, 1, 1},
                       {1, 16, 2},
                       {2, 17, 3},
                       {3, 33, 31},
                       {5, 64, 64},
                       {7, 100, 65},
                       {12, 31, 127},
                       {13, 96, 200},
                       {16, 40, 255},
                       {31, 70, 33},
                       {48, 129, 300},
                       {70, 50, 1025},
                       {1, 300, 2111},
                       {150, 48, 640},
                       {300, 33, 96}}) {
    SCOPED_TRACE(testing::Message() << "M " << c.m << " N " << c.n << " K " << c.k);
    const Values x(dtype(), {c.m, c.k}, random_values(c.m * c.k, 1));
    const Values w(dtype(), {c.n, c.k}, random_values(c.n * c.k, 2));
    const std::vector<float> bias = random_values(c.n, 3);
    const MatrixView view = w.view();
    const Linear linear = device->pack_linear({&view, 1}, dtype(), LinearKind::kPlain, bias);
    std::vector<double> expected = product(x.floats(), w.floats(), c);
    for (size_t i = 0; i < expected.size(); ++i) expected[i] += bias[i % bias.size()];

    const Values y(dtype(), {c.m, c.n});
    device->linear(x.tensor(), linear, Epilogue::kStore, y.tensor());
    EXPECT_LE(relative_l2(y.floats(), expected), tolerance(dtype()));

    const Values f32(DType::kF32, {c.m, c.n}, std::vector<float>(expected.size(), 0.5F));
    device->linear(x.tensor(), linear, Epilogue::kAdd, f32.tensor());
    for (double& v : expected) v += 0.5;
    EXPECT_LE(relative_l2(f32.floats(), expected), tolerance(DType::kF32));
  }
}

TEST_P(LinearTest, GateUpMatchesDouble) {
  const auto device = make_cpu_device(2, isa());
  for (const Case c :
       {Case{1, 2, 4}, {1, 96, 64}, {3, 34, 31}, {6, 130, 77}, {14, 66, 128}, {70, 100, 65}}) {
    SCOPED_TRACE(testing::Message() << "M " << c.m << " N " << c.n << " K " << c.k);
    const int64_t half = c.n / 2;
    const float scale = 1.0F / std::sqrt(static_cast<float>(c.k));
    const Values x(dtype(), {c.m, c.k}, random_values(c.m * c.k, 4));
    const Values w(dtype(), {c.n, c.k}, random_values(c.n * c.k, 5, scale));
    const std::vector<float> bias = random_values(c.n, 6);
    const MatrixView views[] = {{w.rows(0, half).data, dtype(), half, c.k, c.k, 1},
                                {w.rows(half, c.n).data, dtype(), half, c.k, c.k, 1}};
    const Linear linear = device->pack_linear(views, dtype(), LinearKind::kGateUp, bias);
    const std::vector<double> sums = product(x.floats(), w.floats(), c);
    std::vector<double> expected;
    for (int64_t m = 0; m < c.m; ++m) {
      for (int64_t i = 0; i < half; ++i) {
        const auto at = static_cast<size_t>(m * c.n + i);
        const double up =
            sums[at + static_cast<size_t>(half)] + double{bias[static_cast<size_t>(half + i)]};
        expected.push_back(silu(sums[at] + double{bias[static_cast<size_t>(i)]}) * up);
      }
    }
    const Values y(dtype(), {c.m, half});
    device->linear(x.tensor(), linear, Epilogue::kSiluMul, y.tensor());
    EXPECT_LE(relative_l2(y.floats(), expected), tolerance(dtype()));
  }
}

TEST_P(LinearTest, RowsAreTheSameBitsInAnyBatchAndWithAnyThreads) {
  const int64_t n = 210;
  for (const int64_t k : {int64_t{77}, int64_t{1300}}) {
    for (const LinearKind kind : {LinearKind::kPlain, LinearKind::kGateUp}) {
      const int64_t m = 301;
      const Values x(dtype(), {m, k}, random_values(m * k, 7));
      const Values w(dtype(), {n, k}, random_values(n * k, 8, 0.1F));
      const MatrixView views[] = {{w.tensor().data, dtype(), n / 2, k, k, 1},
                                  {w.rows(n / 2, n).data, dtype(), n / 2, k, k, 1}};
      const Epilogue epilogue = kind == LinearKind::kPlain ? Epilogue::kStore : Epilogue::kSiluMul;
      const int64_t columns = kind == LinearKind::kPlain ? n : n / 2;
      std::vector<float> whole;
      for (const int threads : {1, 2, 3, 5}) {
        const auto device = make_cpu_device(threads, isa());
        const Linear linear = device->pack_linear(views, dtype(), kind, {});
        const Values y(DType::kF32, {m, columns});
        device->linear(x.tensor(), linear, epilogue, y.tensor());
        if (whole.empty()) whole = y.floats();
        ASSERT_EQ(y.floats(), whole) << threads << " threads";
        if (threads > 3) continue;
        const Values parts(DType::kF32, {m, columns});
        int64_t row = 0;
        for (int64_t count = 1; row < m; ++count) {
          const int64_t stop = std::min(m, row + count);
          device->linear(x.rows(row, stop), linear, epilogue, parts.rows(row, stop));
          row = stop;
        }
        ASSERT_EQ(parts.floats(), whole) << threads << " threads, K " << k;
      }
    }
  }
}

TEST_P(LinearTest, PacksStridedViewsOfEveryType) {
  const auto device = make_cpu_device(2, isa());
  const int64_t n = 37;
  const int64_t k = 45;
  const std::vector<float> exact = [&] {  // values that every type holds exactly
    std::vector<float> values(static_cast<size_t>(n * k));
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = static_cast<float>(static_cast<int>(i * 7 % 31) - 15) / 8.0F;
    return values;
  }();
  const Values x(dtype(), {4, k}, random_values(4 * k, 9));
  const Values canonical(DType::kF32, {n, k}, exact);
  const MatrixView plain = canonical.view();
  const Linear expected = device->pack_linear({&plain, 1}, dtype(), LinearKind::kPlain, {});
  EXPECT_EQ(expected.data.size(), device->linear_bytes(n, k, dtype(), LinearKind::kPlain));
  for (const DType source : {DType::kF32, DType::kBF16, DType::kF16, DType::kU16}) {
    for (const bool transposed : {false, true}) {
      std::vector<float> laid(exact.size());
      for (int64_t r = 0; r < n; ++r) {
        for (int64_t c = 0; c < k; ++c) {
          laid[static_cast<size_t>(transposed ? c * n + r : r * k + c)] =
              exact[static_cast<size_t>(r * k + c)];
        }
      }
      const Values data(source == DType::kU16 ? DType::kBF16 : source, {n, k}, laid);
      const auto element = static_cast<int64_t>(dtype_bytes(source));
      MatrixView top = {data.tensor().data, source, 20, k, transposed ? 1 : k, transposed ? n : 1};
      MatrixView bottom = top;
      bottom.rows = n - 20;
      bottom.data = static_cast<const uint8_t*>(top.data) + 20 * top.row_stride * element;
      const MatrixView blocks[] = {top, bottom};
      const Linear packed = device->pack_linear(blocks, dtype(), LinearKind::kPlain, {});
      ASSERT_EQ(packed.data.size(), expected.data.size());
      EXPECT_EQ(std::memcmp(packed.data.data(), expected.data.data(), packed.data.size()), 0)
          << dtype_name(source) << (transposed ? " transposed" : "");
    }
  }
}

std::string name_of(const testing::TestParamInfo<std::tuple<std::string, DType>>& info) {
  return std::get<0>(info.param) + "_" + std::string(dtype_name(std::get<1>(info.param)));
}

INSTANTIATE_TEST_SUITE_P(Isas, LinearTest,
                         testing::Combine(testing::ValuesIn(available_isas()),
                                          testing::Values(DType::kF32, DType::kBF16)),
                         name_of);

}  // namespace
}  // namespace erne::test
