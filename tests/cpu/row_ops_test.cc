// embed() and rms_norm(): values, row choice, and the same bits with any number of threads.
#include <gtest/gtest.h>

#include "cpu/cpu_device.h"
#include "samples.h"

namespace erne::test {
namespace {

class RowOpsTest : public testing::TestWithParam<std::string> {};

TEST_P(RowOpsTest, EmbedPicksRowsOfAnyTypeAndStride) {
  const auto device = make_cpu_device(3, GetParam());
  const Values table(DType::kBF16, {50, 36}, random_values(50 * 36, 1));
  const std::vector<float> values = table.floats();
  std::vector<int32_t> ids;
  for (int i = 0; i < 90; ++i) ids.push_back(i * 7 % 50);
  const Values x(DType::kF32, {90, 36});
  device->embed(device->pack_embedding(table.view()), ids, x.tensor());
  const Values transposed(DType::kF32, {90, 36});
  device->embed(device->pack_embedding({table.tensor().data, DType::kU16, 36, 36, 1, 36}),
                std::vector<int32_t>(90, 3), transposed.tensor());
  for (size_t t = 0; t < ids.size(); ++t) {
    for (size_t i = 0; i < 36; ++i) {
      ASSERT_EQ(x.floats()[t * 36 + i], values[static_cast<size_t>(ids[t]) * 36 + i]);
      ASSERT_EQ(transposed.floats()[t * 36 + i], values[i * 36 + 3]);
    }
  }
}

TEST_P(RowOpsTest, RmsNormMatchesDouble) {
  for (const int64_t width : {int64_t{1}, int64_t{7}, int64_t{64}, int64_t{576}, int64_t{1001}}) {
    const int64_t tokens = 41;
    const float eps = 1e-5F;
    const Values x(DType::kF32, {tokens, width}, random_values(tokens * width, 2, 3.0F));
    const std::vector<float> w = random_values(width, 3);
    std::vector<double> expected;
    const std::vector<float> source = x.floats();
    for (int64_t t = 0; t < tokens; ++t) {
      double sum = 0;
      for (int64_t i = 0; i < width; ++i) {
        const double v = source[static_cast<size_t>(t * width + i)];
        sum += v * v;
      }
      const double scale = 1 / std::sqrt(sum / static_cast<double>(width) + double{eps});
      for (int64_t i = 0; i < width; ++i) {
        expected.push_back(double{source[static_cast<size_t>(t * width + i)]} * scale *
                           double{w[static_cast<size_t>(i)]});
      }
    }
    std::vector<float> first;
    for (const int threads : {1, 2, 5}) {
      const auto device = make_cpu_device(threads, GetParam());
      for (const DType dtype : {DType::kF32, DType::kBF16}) {
        const Values y(dtype, {tokens, width});
        device->rms_norm(x.tensor(), {}, w.data(), eps, y.tensor());
        EXPECT_LE(relative_l2(y.floats(), expected), tolerance(dtype)) << width;
        if (dtype == DType::kF32 && first.empty()) first = y.floats();
        if (dtype == DType::kF32) {
          EXPECT_EQ(y.floats(), first);
        }
      }
      const std::vector<int32_t> rows = {3, 40};
      const Values chosen(DType::kF32, {2, width});
      device->rms_norm(x.tensor(), rows, w.data(), eps, chosen.tensor());
      for (int64_t i = 0; i < width; ++i) {
        ASSERT_EQ(chosen.floats()[static_cast<size_t>(i)],
                  first[static_cast<size_t>(3 * width + i)]);
        ASSERT_EQ(chosen.floats()[static_cast<size_t>(width + i)],
                  first[static_cast<size_t>(40 * width + i)]);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, RowOpsTest, testing::ValuesIn(available_isas()),
                         [](const auto& isa) { return isa.param; });

}  // namespace
}  // namespace erne::test
