// Linears of every weight type on a GPU: against double precision over odd shapes and epilogues,
// and bit for bit whatever the batch and the order of threads.
#include <gtest/gtest.h>

#include "cpu/code_samples.h"
#include "gpu/test_device.h"

namespace erne::test {
namespace {

struct Weight {
  std::string name;
  DType dtype;                      ///< of inputs
  std::optional<CodeFormat> codes;  ///< none: of the weight too
};

std::vector<Weight> weights() {
  std::vector<Weight> list = {{"f32", DType::kF32, {}}, {"bf16", DType::kBF16, {}}};
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const std::string x = dtype == DType::kF32 ? "_f32" : "_bf16";
    list.push_back({"int8_row" + x, dtype, CodeFormat{CodeType::kInt8, 0, false, DType::kF32}});
    list.push_back(
        {"int8_g64_min" + x, dtype, CodeFormat{CodeType::kInt8, 64, true, DType::kBF16}});
    list.push_back({"int4_g32" + x, dtype, CodeFormat{CodeType::kInt4, 32, false, DType::kF16}});
    list.push_back(
        {"int4_g128_min" + x, dtype, CodeFormat{CodeType::kInt4, 128, true, DType::kF32}});
    list.push_back({"int4_row" + x, dtype, CodeFormat{CodeType::kInt4, 0, false, DType::kBF16}});
    list.push_back({"fp8_g128" + x, dtype, CodeFormat{CodeType::kFp8, 128, false, DType::kF32}});
  }
  return list;
}

/// Random codes that are numbers: fp8 codes that stand for NaN become others.
class Codes final : public CodeRows {
 public:
  Codes(CodeFormat code_format, int64_t num_rows, int64_t num_cols, uint32_t seed)
      : CodeRows(code_format, num_rows, num_cols), all_(code_format, num_rows, num_cols, seed) {}
  void read(int64_t row, int8_t* codes, float* scales, float* mins) const override {
    all_.read(row, codes, scales, mins);
    if (format().type != CodeType::kFp8) return;
    for (int64_t i = 0; i < cols(); ++i) codes[i] = static_cast<int8_t>(codes[i] & ~4);
  }

 private:
  RandomCodes all_;
};

std::vector<double> values_of(const CodeRows& rows) {
  std::vector<double> values;
  const auto groups = static_cast<size_t>(rows.format().groups(rows.cols()));
  std::vector<int8_t> codes(static_cast<size_t>(rows.cols()));
  std::vector<float> scales(groups), mins(groups);
  for (int64_t r = 0; r < rows.rows(); ++r) {
    rows.read(r, codes.data(), scales.data(), mins.data());
    for (size_t i = 0; i < codes.size(); ++i) {
      const size_t g = rows.format().group == 0 ? 0 : i / static_cast<size_t>(rows.format().group);
      const double code = rows.format().type == CodeType::kFp8
                              ? double{to_f32(f8e4m3{static_cast<uint8_t>(codes[i])})}
                              : static_cast<double>(codes[i]);
      values.push_back(code * scales[g] + (rows.format().has_min ? double{mins[g]} : 0.0));
    }
  }
  return values;
}

/// A packed weight and what it stands for.
struct Packed {
  Linear w;
  std::vector<double> values;  ///< [n, k]
};

Packed pack(Device& device, const Weight& weight, int64_t n, int64_t k, LinearKind kind,
            std::span<const float> bias, uint32_t seed) {
  const int64_t parts = kind == LinearKind::kGateUp ? 2 : 1;
  Packed packed;
  if (weight.codes) {
    const Codes first(*weight.codes, n / parts, k, seed);
    const Codes second(*weight.codes, n / parts, k, seed + 1);
    const CodeRows* blocks[] = {&first, &second};
    packed.w = device.pack_codes({blocks, static_cast<size_t>(parts)}, weight.dtype, Inputs::kFull,
                                 kind, bias);
    EXPECT_EQ(packed.w.data.size(), device.code_bytes(n, k, *weight.codes, kind));
    for (int64_t p = 0; p < parts; ++p) {
      const std::vector<double> part = values_of(*static_cast<const Codes*>(blocks[p]));
      packed.values.insert(packed.values.end(), part.begin(), part.end());
    }
    return packed;
  }
  const Values all(weight.dtype, {n, k}, random_values(n * k, seed, 0.3F));
  MatrixView blocks[2];
  for (int64_t p = 0; p < parts; ++p)
    blocks[p] = {all.rows(p * n / parts, n).data, weight.dtype, n / parts, k, k, 1};
  packed.w = device.pack_linear({blocks, static_cast<size_t>(parts)}, weight.dtype, kind, bias);
  EXPECT_EQ(packed.w.data.size(), device.linear_bytes(n, k, weight.dtype, kind));
  const std::vector<float> floats = all.floats();
  packed.values.assign(floats.begin(), floats.end());
  return packed;
}

std::vector<double> products(const std::vector<float>& x, const Packed& p,
                             std::span<const float> bias) {
  const auto k = static_cast<size_t>(p.w.k);
  const auto n = static_cast<size_t>(p.w.n);
  std::vector<double> y;
  for (size_t m = 0; m < x.size() / k; ++m) {
    for (size_t j = 0; j < n; ++j) {
      double sum = bias.empty() ? 0.0 : double{bias[j]};
      for (size_t i = 0; i < k; ++i) sum += x[m * k + i] * p.values[j * k + i];
      y.push_back(sum);
    }
  }
  return y;
}

class GpuLinear : public testing::TestWithParam<Weight> {};

struct Size {
  int64_t m, n, k;
};
constexpr Size kSizes[] = {{1, 5, 7},   {2, 16, 64},  {3, 33, 130}, {8, 18, 256},
                           {9, 20, 96}, {17, 7, 513}, {1, 40, 1024}};

TEST_P(GpuLinear, StoreMatchesDouble) {
  const auto device = make_test_device();
  for (const Size s : kSizes) {
    const std::vector<float> bias = s.n % 2 == 0 ? random_values(s.n, 5) : std::vector<float>();
    const Packed p = pack(*device, GetParam(), s.n, s.k, LinearKind::kPlain, bias, 1);
    const Values x(GetParam().dtype, {s.m, s.k}, random_values(s.m * s.k, 2));
    const DeviceValues x_there(*device, x);
    const std::vector<double> expected = products(x.floats(), p, bias);
    for (const DType dtype : {DType::kF32, GetParam().dtype}) {
      const DeviceValues y(*device, dtype, {s.m, s.n});
      device->linear(x_there.tensor(), p.w, Epilogue::kStore, y.tensor());
      EXPECT_LE(relative_l2(y.floats(), expected), tolerance(dtype))
          << s.m << " " << s.n << " " << s.k;
      EXPECT_TRUE(y.guards_hold());
    }
  }
}

TEST_P(GpuLinear, AddMatchesDouble) {
  const auto device = make_test_device();
  const Size s{11, 21, 100};
  const std::vector<float> bias = random_values(s.n, 5);
  const Packed p = pack(*device, GetParam(), s.n, s.k, LinearKind::kPlain, bias, 1);
  const Values x(GetParam().dtype, {s.m, s.k}, random_values(s.m * s.k, 2));
  const Values residual(DType::kF32, {s.m, s.n}, random_values(s.m * s.n, 3, 10.0F));
  const DeviceValues x_there(*device, x), y(*device, residual);
  device->linear(x_there.tensor(), p.w, Epilogue::kAdd, y.tensor());
  std::vector<double> expected = products(x.floats(), p, bias);
  for (size_t i = 0; i < expected.size(); ++i) expected[i] += residual.floats()[i];
  EXPECT_LE(relative_l2(y.floats(), expected), tolerance(DType::kF32));
  EXPECT_TRUE(y.guards_hold());
}

TEST_P(GpuLinear, SiluMulMatchesDouble) {
  const auto device = make_test_device();
  for (const Size s : {Size{1, 10, 70}, Size{12, 34, 96}, Size{8, 8, 64}}) {
    const std::vector<float> bias = s.m > 8 ? random_values(s.n, 5) : std::vector<float>();
    const Packed p = pack(*device, GetParam(), s.n, s.k, LinearKind::kGateUp, bias, 1);
    const Values x(GetParam().dtype, {s.m, s.k}, random_values(s.m * s.k, 2, 0.3F));
    const DeviceValues x_there(*device, x);
    const DeviceValues y(*device, GetParam().dtype, {s.m, s.n / 2});
    device->linear(x_there.tensor(), p.w, Epilogue::kSiluMul, y.tensor());
    const std::vector<double> sums = products(x.floats(), p, bias);
    std::vector<double> expected;
    for (int64_t m = 0; m < s.m; ++m) {
      for (int64_t i = 0; i < s.n / 2; ++i) {
        const double gate = sums[static_cast<size_t>(m * s.n + i)];
        expected.push_back(gate / (1 + std::exp(-gate)) *
                           sums[static_cast<size_t>(m * s.n + s.n / 2 + i)]);
      }
    }
    EXPECT_LE(relative_l2(y.floats(), expected), 3 * tolerance(GetParam().dtype)) << s.n;
    EXPECT_TRUE(y.guards_hold());
  }
}

TEST_P(GpuLinear, SameBitsAloneInABatchAndInAnyOrder) {
  const auto device = make_test_device();
  const Size s{19, 22, 160};
  const Packed p = pack(*device, GetParam(), s.n, s.k, LinearKind::kPlain, {}, 1);
  const Values x(GetParam().dtype, {s.m, s.k}, random_values(s.m * s.k, 2));
  const DeviceValues x_there(*device, x);
  std::vector<float> first;
  const auto body = [&] {
    const DeviceValues y(*device, DType::kF32, {s.m, s.n});
    device->linear(x_there.tensor(), p.w, Epilogue::kStore, y.tensor());
    const std::vector<float> whole = y.floats();
    if (first.empty()) first = whole;
    EXPECT_EQ(whole, first);
    const DeviceValues single(*device, DType::kF32, {s.m, s.n});
    for (int64_t m = 0; m < s.m; ++m) {
      const Tensor row = single.rows(m, m + 1);
      device->linear(x_there.rows(m, m + 1), p.w, Epilogue::kStore, row);
    }
    EXPECT_EQ(single.floats(), first);
  };
  for_each_schedule(body);
}

TEST_P(GpuLinear, ANaNInARowStaysInThatRow) {
  const auto device = make_test_device();
  const Size s{9, 6, 64};
  const Packed p = pack(*device, GetParam(), s.n, s.k, LinearKind::kPlain, {}, 1);
  std::vector<float> values = random_values(s.m * s.k, 2);
  values[static_cast<size_t>(3 * s.k + 5)] = NAN;
  const DeviceValues x(*device, Values(GetParam().dtype, {s.m, s.k}, values));
  const DeviceValues y(*device, DType::kF32, {s.m, s.n});
  device->linear(x.tensor(), p.w, Epilogue::kStore, y.tensor());
  const std::vector<float> out = y.floats();
  for (size_t i = 0; i < out.size(); ++i)
    EXPECT_EQ(std::isnan(out[i]), i / static_cast<size_t>(s.n) == 3) << i;
}

TEST(GpuCodes, RefusesWhatNoKernelTakes) {
  const auto device = make_test_device();
  const auto bytes = [&](CodeFormat format) {
    device->code_bytes(8, 64, format, LinearKind::kPlain);
  };
  EXPECT_THROW(bytes({CodeType::kInt8, 16, false, DType::kF32}), Error);
  EXPECT_THROW(bytes({CodeType::kInt4, 32, false, DType::kI32}), Error);
  const RandomCodes codes({CodeType::kInt8, 32, false, DType::kF32}, 8, 64, 1);
  const CodeRows* block = &codes;
  EXPECT_THROW(device->pack_codes({&block, 1}, DType::kBF16, Inputs::kInt8, LinearKind::kPlain, {}),
               Error);
}

INSTANTIATE_TEST_SUITE_P(Weights, GpuLinear, testing::ValuesIn(weights()),
                         [](const auto& which) { return which.param.name; });

}  // namespace
}  // namespace erne::test
