// embed(), rms_norm() and expert_combine() on a GPU.
#include <gtest/gtest.h>

#include "gpu/test_device.h"

namespace erne::test {
namespace {

TEST(GpuRows, EmbedPicksRowsOfAnyTypeAndStride) {
  const auto device = make_test_device();
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    for (const int64_t width : {int64_t{36}, int64_t{1}, int64_t{300}}) {
      const Values table(dtype, {50, width}, random_values(50 * width, 1));
      const std::vector<float> values = table.floats();
      OneSequence step(67);
      for (size_t i = 0; i < step.ids.size(); ++i) step.ids[i] = static_cast<int32_t>(i * 7 % 50);
      device->begin_step(step.batch());
      const DeviceValues x(*device, DType::kF32, {67, width});
      device->embed(device->pack_embedding(table.view()), step.ids, x.tensor());
      const std::vector<float> out = x.floats();
      for (size_t t = 0; t < 67; ++t) {
        for (size_t i = 0; i < static_cast<size_t>(width); ++i) {
          ASSERT_EQ(out[t * static_cast<size_t>(width) + i],
                    values[static_cast<size_t>(step.ids[t]) * static_cast<size_t>(width) + i]);
        }
      }
      EXPECT_TRUE(x.guards_hold());
    }
  }
}

TEST(GpuRows, EmbedTakesATransposedTableOfBfloat16Bits) {
  const auto device = make_test_device();
  const Values table(DType::kBF16, {20, 36}, random_values(20 * 36, 2));
  OneSequence step(2);
  step.ids = {3, 35};
  device->begin_step(step.batch());
  const DeviceValues x(*device, DType::kF32, {2, 20});
  device->embed(device->pack_embedding({table.tensor().data, DType::kU16, 36, 20, 1, 36}), step.ids,
                x.tensor());
  for (size_t i = 0; i < 20; ++i) {
    EXPECT_EQ(x.floats()[i], table.floats()[i * 36 + 3]);
    EXPECT_EQ(x.floats()[20 + i], table.floats()[i * 36 + 35]);
  }
}

std::vector<double> normed(const std::vector<float>& x, const std::vector<float>& w, float eps) {
  std::vector<double> y;
  for (size_t row = 0; row < x.size(); row += w.size()) {
    double sum = 0;
    for (size_t i = 0; i < w.size(); ++i) sum += double{x[row + i]} * x[row + i];
    const double scale = 1 / std::sqrt(sum / static_cast<double>(w.size()) + double{eps});
    for (size_t i = 0; i < w.size(); ++i) y.push_back(double{x[row + i]} * scale * w[i]);
  }
  return y;
}

TEST(GpuRows, RmsNormMatchesDouble) {
  const auto device = make_test_device();
  const float eps = 1e-5F;
  for (const int64_t width : {1, 7, 64, 576, 1001, 2560}) {
    for (const int64_t tokens : {1, 41}) {
      const Values x(DType::kF32, {tokens, width}, random_values(tokens * width, 2, 3.0F));
      const std::vector<float> w = random_values(width, 3);
      const Buffer w_there = device->upload(w);
      const DeviceValues x_there(*device, x);
      const std::vector<double> expected = normed(x.floats(), w, eps);
      for (const DType dtype : {DType::kF32, DType::kBF16}) {
        const DeviceValues y(*device, dtype, {tokens, width});
        device->rms_norm(x_there.tensor(), {}, w_there.as<float>(), eps, y.tensor());
        EXPECT_LE(relative_l2(y.floats(), expected), tolerance(dtype)) << width;
        EXPECT_TRUE(y.guards_hold());
      }
    }
  }
}

TEST(GpuRows, RmsNormOfPickedRowsIsTheSameBits) {
  const auto device = make_test_device();
  const int64_t tokens = 41, width = 70;
  const DeviceValues x(*device,
                       Values(DType::kF32, {tokens, width}, random_values(tokens * width, 5)));
  const Buffer w = device->upload(random_values(width, 6));
  const OneSequence step(tokens, {0, 3, 40});
  device->begin_step(step.batch());
  const DeviceValues all(*device, DType::kF32, {tokens, width});
  const DeviceValues some(*device, DType::kF32, {3, width});
  device->rms_norm(x.tensor(), {}, w.as<float>(), 1e-5F, all.tensor());
  device->rms_norm(x.tensor(), step.logit_rows, w.as<float>(), 1e-5F, some.tensor());
  const std::vector<float> a = all.floats();
  const std::vector<float> b = some.floats();
  for (size_t r = 0; r < 3; ++r) {
    const int64_t row = step.logit_rows[r];
    EXPECT_EQ(std::vector<float>(b.begin() + static_cast<int64_t>(r) * width,
                                 b.begin() + static_cast<int64_t>(r + 1) * width),
              std::vector<float>(a.begin() + row * width, a.begin() + (row + 1) * width));
  }
}

TEST(GpuRows, CombineAddsInTheOrderOfTheChoices) {
  const auto device = make_test_device();
  const int64_t tokens = 5, top_k = 3, width = 33;
  const Values y(DType::kF32, {tokens * top_k, width}, random_values(tokens * top_k * width, 7));
  const Values x(DType::kF32, {tokens, width}, random_values(tokens * width, 8));
  const Values weights(DType::kF32, {tokens * top_k}, random_values(tokens * top_k, 9));
  std::vector<float> slots(static_cast<size_t>(tokens * top_k));
  std::vector<int32_t> slot_of(slots.size());
  for (size_t i = 0; i < slots.size(); ++i) slot_of[i] = static_cast<int32_t>(i * 4 % slots.size());
  std::memcpy(slots.data(), slot_of.data(), slots.size() * 4);
  Buffer slots_there = device->upload(slots);
  const DeviceValues y_there(*device, y), x_there(*device, x), w_there(*device, weights);
  Routing routing;
  routing.num_tokens = tokens;
  routing.top_k = top_k;
  routing.slot_of = slots_there.as<int32_t>();
  routing.weights = w_there.tensor().ptr<float>();
  device->expert_combine(y_there.tensor(), routing, x_there.tensor());
  std::vector<double> expected;
  for (size_t t = 0; t < static_cast<size_t>(tokens); ++t) {
    for (size_t i = 0; i < static_cast<size_t>(width); ++i) {
      double sum = x.floats()[t * static_cast<size_t>(width) + i];
      for (size_t j = 0; j < static_cast<size_t>(top_k); ++j) {
        const size_t at = t * static_cast<size_t>(top_k) + j;
        sum +=
            double{weights.floats()[at]} * y.floats()[static_cast<size_t>(slot_of[at] * width) + i];
      }
      expected.push_back(sum);
    }
  }
  EXPECT_LE(relative_l2(x_there.floats(), expected), tolerance(DType::kF32));
  EXPECT_TRUE(x_there.guards_hold());
}

}  // namespace
}  // namespace erne::test
