// linear() with 2-bit weights on every instruction set: against a double-precision product of what
// the codes stand for, against the generic table bit for bit, and against itself under other
// batches and thread counts.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "cpu/cpu_device.h"
#include "samples.h"
#include "tensor/code_rows.h"

namespace erne::test {
namespace {

/// Random bits and constants in the form of CodeRows::read_ccq, and values decoded here, by the
/// formulas of the specification.
class RandomCcq final : public CodeRows {
 public:
  RandomCcq(CodeType type, int64_t num_rows, int64_t num_cols, uint32_t seed)
      : CodeRows({type, 64, false, DType::kF32}, num_rows, num_cols),
        row_bytes_(ccq_row_bytes(type, num_cols)),
        bytes_(static_cast<size_t>(row_bytes_ * num_rows)) {
    std::mt19937 engine(seed);
    for (uint8_t& byte : bytes_) byte = static_cast<uint8_t>(engine());
    std::uniform_real_distribution<float> uniform(0.5F, 1.5F);
    for (int64_t n = 0; n < num_rows; ++n) {
      const float super = to_f32(to_bf16(uniform(engine) * (is_two() ? 1e-3F : 1e-6F)));
      // Some states are negative, some beyond 15 bits.
      constants_.push_back({super, uniform(engine) * 120, (uniform(engine) - 1) * 9000});
    }
  }

  bool is_two() const { return format().type == CodeType::kCcq2; }
  void read(int64_t, int8_t*, float*, float*) const override { FAIL() << "not by a device"; }
  CcqConstants read_ccq(int64_t row, uint8_t* bytes) const override {
    std::copy_n(bytes_.begin() + row * row_bytes_, row_bytes_, bytes);
    return constants_[static_cast<size_t>(row)];
  }

  double value(int64_t row, int64_t k) const {
    const uint8_t* b = bytes_.data() + row * row_bytes_;
    const CcqConstants& c = constants_[static_cast<size_t>(row)];
    const int64_t g = k / 64;
    const int64_t i = k % 64;
    if (is_two()) {
      const float x =
          std::floor(std::fma(static_cast<float>(b[k / 4]), c.code_scale, c.code_zp) + 0.5F);
      const int q = (static_cast<int>(x) >> (9 - 3 * (k % 4)) & 63) - 32;
      const uint8_t pair = b[(cols() + 63) / 64 * 16 + g / 2];
      return double{c.super * static_cast<float>(g % 2 == 0 ? pair >> 4 : pair & 15)} * q;
    }
    const auto word = [&](int64_t w) { return b[(g * 10 + w) * 2] | b[(g * 10 + w) * 2 + 1] << 8; };
    constexpr int kShifts[] = {13, 11, 9, 6, 4, 2, 0};
    const int q = i == 63 ? (word(9) >> 13) - 4 : (word(i / 7) >> kShifts[i % 7] & 7) - 4;
    return double{c.super * static_cast<float>(word(9) & 0x1FFF)} * q;
  }

 private:
  int64_t row_bytes_;
  std::vector<uint8_t> bytes_;
  std::vector<CcqConstants> constants_;
};

class CcqLinearTest : public testing::TestWithParam<std::tuple<std::string, CodeType>> {
 protected:
  std::string isa() const { return std::get<0>(GetParam()); }
  CodeType type() const { return std::get<1>(GetParam()); }
};

Linear pack(Device& device, const CodeRows& w, DType dtype, Inputs inputs,
            LinearKind kind = LinearKind::kPlain) {
  const CodeRows* blocks[] = {&w};
  return device.pack_codes(blocks, dtype, inputs, kind, {});
}

TEST_P(CcqLinearTest, MatchesDoubleAndGenericOverOddShapes) {
  const auto device = make_cpu_device(2, isa());
  const auto generic = make_cpu_device(1, "generic");
  uint32_t seed = 0;
  for (const auto& [m, n, k] : std::vector<std::tuple<int64_t, int64_t, int64_t>>{{1, 33, 64},
                                                                                  {1, 70, 576},
                                                                                  {2, 17, 48},
                                                                                  {5, 40, 192},
                                                                                  {7, 31, 130},
                                                                                  {13, 96, 3},
                                                                                  {37, 50, 320}}) {
    for (const Inputs inputs : {Inputs::kFull, Inputs::kInt8}) {
      for (const DType dtype : {DType::kF32, DType::kBF16}) {
        SCOPED_TRACE(testing::Message() << m << " x " << n << " x " << k);
        const Values x(dtype, {m, k}, random_values(m * k, ++seed));
        const RandomCcq w(type(), n, k, ++seed);
        const Linear linear = pack(*device, w, dtype, inputs);
        EXPECT_EQ(linear.data.size(), device->code_bytes(n, k, w.format(), LinearKind::kPlain));
        const Values y(DType::kF32, {m, n});
        device->linear(x.tensor(), linear, Epilogue::kStore, y.tensor());
        const Values plain(DType::kF32, {m, n});
        generic->linear(x.tensor(), pack(*generic, w, dtype, inputs), Epilogue::kStore,
                        plain.tensor());
        ASSERT_EQ(y.floats(), plain.floats());
        const double step = inputs == Inputs::kFull ? 1.0 / 16256 : 1.0 / 127;
        const std::vector<float> values = x.floats();
        const std::vector<float> sums = y.floats();
        for (int64_t r = 0; r < m; ++r) {
          for (int64_t j = 0; j < n; ++j) {
            double sum = 0;
            double bound = 0;
            for (int64_t g = 0; g < k; g += 64) {
              double largest = 0;
              double weights = 0;
              for (int64_t i = g; i < std::min(k, g + 64); ++i) {
                const double v = values[static_cast<size_t>(r * k + i)];
                sum += v * w.value(j, i);
                largest = std::max(largest, std::fabs(v));
                weights += std::fabs(w.value(j, i));
              }
              bound += largest * weights * (step / 2 + 1e-6);
            }
            ASSERT_LE(std::fabs(sums[static_cast<size_t>(r * n + j)] - sum), bound)
                << r << " " << j;
          }
        }
      }
    }
  }
}

TEST_P(CcqLinearTest, KeepsTheBitsOfTheFormat) {
  const auto device = make_cpu_device(1, isa());
  const int64_t n = 1024, k = 4096;
  const double bits = 8.0 *
                      static_cast<double>(device->code_bytes(n, k, {type(), 64, false, DType::kF32},
                                                             LinearKind::kPlain)) /
                      static_cast<double>(n * k);
  EXPECT_LT(bits, type() == CodeType::kCcq25 ? 2.51 : 2.09);
}

TEST_P(CcqLinearTest, RowsAreTheSameBitsInAnyBatchAndWithAnyThreads) {
  const int64_t m = 431, n = 210, k = 320;  // more rows than any kernel takes at once
  for (const Inputs inputs : {Inputs::kFull, Inputs::kInt8}) {
    const Values x(DType::kBF16, {m, k}, random_values(m * k, 7));
    const RandomCcq w(type(), n, k, 8);
    std::vector<float> whole;
    for (const int threads : {1, 2, 3}) {
      const auto device = make_cpu_device(threads, isa());
      const Linear linear = pack(*device, w, DType::kBF16, inputs);
      const Values y(DType::kF32, {m, n});
      device->linear(x.tensor(), linear, Epilogue::kStore, y.tensor());
      if (whole.empty()) whole = y.floats();
      ASSERT_EQ(y.floats(), whole) << threads << " threads";
      const Values parts(DType::kF32, {m, n});
      for (int64_t row = 0, count = 1; row < m; row += count, ++count) {
        const int64_t stop = std::min(m, row + count);
        device->linear(x.rows(row, stop), linear, Epilogue::kStore, parts.rows(row, stop));
      }
      ASSERT_EQ(parts.floats(), whole) << threads << " threads";
    }
  }
}

TEST_P(CcqLinearTest, GatedAndExpertsMatchLinears) {
  const auto device = make_cpu_device(2, isa());
  const int64_t tokens = 5, half = 40, k = 128;
  const RandomCcq w(type(), 2 * half, k, 3);
  const Values x(DType::kBF16, {tokens, k}, random_values(tokens * k, 4));
  const Values sums(DType::kF32, {tokens, 2 * half});
  device->linear(x.tensor(), pack(*device, w, DType::kBF16, Inputs::kFull), Epilogue::kStore,
                 sums.tensor());
  std::vector<Linear> experts;
  std::vector<double> products;
  for (int64_t r = 0; r < tokens; ++r) {
    for (int64_t i = 0; i < half; ++i) {
      const double g = sums.floats()[static_cast<size_t>(r * 2 * half + i)];
      const double up = sums.floats()[static_cast<size_t>(r * 2 * half + half + i)];
      products.push_back(g / (1 + std::exp(-g)) * up);
    }
  }
  // Gate and up are the halves of one matrix here.
  class Half final : public CodeRows {
   public:
    Half(const CodeRows& all, int64_t first)
        : CodeRows(all.format(), all.rows() / 2, all.cols()), all_(all), first_(first) {}
    void read(int64_t, int8_t*, float*, float*) const override {}
    CcqConstants read_ccq(int64_t row, uint8_t* bytes) const override {
      return all_.read_ccq(first_ + row, bytes);
    }

   private:
    const CodeRows& all_;
    int64_t first_;
  };
  const Half gate(w, 0);
  const Half up(w, half);
  const CodeRows* blocks[] = {&gate, &up};
  experts.push_back(
      device->pack_codes(blocks, DType::kBF16, Inputs::kFull, LinearKind::kGateUp, {}));
  const Values product(DType::kF32, {tokens, half});
  device->linear(x.tensor(), experts[0], Epilogue::kSiluMul, product.tensor());
  EXPECT_LE(relative_l2(product.floats(), products), tolerance(DType::kF32));
  std::vector<int32_t> start = {0, static_cast<int32_t>(tokens)};
  std::vector<int32_t> token = {3, 0, 4, 1, 2};
  Routing routing;
  routing.num_tokens = tokens;
  routing.top_k = 1;
  routing.num_experts = 1;
  routing.expert_start = start.data();
  routing.slot_token = token.data();
  const Values slots(DType::kF32, {tokens, half});
  device->expert_linear(x.tensor(), ExpertRows::kByToken, device->group_experts(std::move(experts)),
                        routing, Epilogue::kSiluMul, slots.tensor());
  for (int64_t s = 0; s < tokens; ++s) {
    for (int64_t i = 0; i < half; ++i)
      ASSERT_EQ(slots.floats()[static_cast<size_t>(s * half + i)],
                product.floats()[static_cast<size_t>(token[static_cast<size_t>(s)] * half + i)]);
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, CcqLinearTest,
                         testing::Combine(testing::ValuesIn(available_isas()),
                                          testing::Values(CodeType::kCcq25, CodeType::kCcq2)),
                         [](const testing::TestParamInfo<std::tuple<std::string, CodeType>>& i) {
                           return std::get<0>(i.param) +
                                  (std::get<1>(i.param) == CodeType::kCcq25 ? "_wint25" : "_wint2");
                         });

}  // namespace
}  // namespace erne::test
