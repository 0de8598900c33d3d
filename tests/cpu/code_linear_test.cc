// linear() with quantised weights on every instruction set: against a double-precision product of
// the dequantised weights within the bound that the rounding of inputs allows, against the generic
// table bit for bit, and against itself under other batches and thread counts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "base/error.h"
#include "code_samples.h"
#include "cpu/cpu_device.h"

namespace erne::test {
namespace {

struct Case {
  int64_t m, n, k;
};

/// One way to store a weight and to read inputs.
struct Way {
  CodeFormat format;
  Inputs inputs;
  DType dtype;

  friend std::ostream& operator<<(std::ostream& out, const Way& w) {
    return out << "group " << w.format.group << (w.format.has_min ? " mins " : " ")
               << dtype_name(w.format.scale_type) << " scales, "
               << (w.inputs == Inputs::kFull ? "full " : "int8 ") << dtype_name(w.dtype);
  }
};

std::vector<Way> ways_of(CodeType type) {
  std::vector<Way> ways;
  for (const int32_t group : {0, 32, 64, 128}) {
    for (const bool has_min : {false, true}) {
      for (const DType scales : {DType::kF32, DType::kBF16, DType::kF16}) {
        for (const Inputs inputs : {Inputs::kFull, Inputs::kInt8}) {
          for (const DType dtype : {DType::kF32, DType::kBF16})
            ways.push_back({{type, group, has_min, scales}, inputs, dtype});
        }
      }
    }
  }
  return ways;
}

/// Sums in double precision, and how far a kernel may be from them.
struct Expected {
  std::vector<double> sums;
  std::vector<double> bounds;
};

/// An input is off by at most half a step of its block, largest / most, plus what f32 loses while
/// finding the step (three roundings of up to 2^-24 of the value); then comes a rounding of the
/// integer sum, one or two of the running sum for every group of the block that follows, and one
/// for every block.
Expected multiply(const std::vector<float>& x, const RandomCodes& w, const Way& way,
                  const Case& c) {
  const double most = way.inputs == Inputs::kFull ? 16256 : 127;
  const int64_t group = way.format.group == 0 ? 128 : way.format.group;
  const int64_t block = way.inputs == Inputs::kFull ? 128 : group;
  const double chain = 0x1p-24 * (6 + 2.0 * static_cast<double>((c.k + group - 1) / group));
  std::vector<double> weights;
  for (int64_t n = 0; n < c.n; ++n) {
    for (int64_t k = 0; k < c.k; ++k) weights.push_back(w.value(n, k));
  }
  Expected expected;
  for (int64_t m = 0; m < c.m; ++m) {
    const float* row = x.data() + m * c.k;
    std::vector<double> step;
    for (int64_t begin = 0; begin < c.k; begin += block) {
      double largest = 0;
      for (int64_t k = begin; k < std::min(c.k, begin + block); ++k)
        largest = std::max(largest, std::fabs(double{row[k]}));
      step.insert(step.end(), static_cast<size_t>(std::min(c.k - begin, block)), largest / most);
    }
    for (int64_t n = 0; n < c.n; ++n) {
      double sum = 0;
      double bound = 0;
      double terms = 0;
      for (int64_t k = 0; k < c.k; ++k) {
        const double weight = weights[static_cast<size_t>(n * c.k + k)];
        sum += row[k] * weight;
        bound += std::fabs(weight) * step[static_cast<size_t>(k)] / 2;
        // Codes and minima cancel in a weight, not in the sums: scale * 128 bounds either part.
        terms += std::fabs(double{row[k]}) * (std::fabs(weight) + w.part(n, k));
      }
      expected.sums.push_back(sum);
      expected.bounds.push_back(bound * 1.0001 + terms * chain);
    }
  }
  return expected;
}

void expect_within(const std::vector<float>& y, const Expected& expected) {
  ASSERT_EQ(y.size(), expected.sums.size());
  for (size_t i = 0; i < y.size(); ++i)
    ASSERT_LE(std::fabs(y[i] - expected.sums[i]), expected.bounds[i]) << "element " << i;
}

class CodeLinearTest : public testing::TestWithParam<std::tuple<std::string, CodeType>> {
 protected:
  std::string isa() const { return std::get<0>(GetParam()); }
  CodeType type() const { return std::get<1>(GetParam()); }
};

Linear pack(Device& device, const CodeRows& w, const Way& way, std::span<const float> bias = {}) {
  const CodeRows* blocks[] = {&w};
  return device.pack_codes(blocks, way.dtype, way.inputs, LinearKind::kPlain, bias);
}

TEST_P(CodeLinearTest, MatchesDoubleAndGenericOverOddShapes) {
  const auto device = make_cpu_device(2, isa());
  const auto generic = make_cpu_device(1, "generic");
  uint32_t seed = 0;
  for (const Way& way : ways_of(type())) {
    for (const Case c : {Case{1, 1, 1},
                         {1, 33, 2},
                         {2, 17, 31},
                         {3, 40, 64},
                         {4, 65, 130},
                         {7, 31, 129},
                         {13, 96, 203},
                         {5, 70, 100},
                         {6, 33, 260},
                         {25, 47, 161},
                         {37, 50, 96},
                         {1, 100, 1100}}) {
      SCOPED_TRACE(testing::Message() << way << ": M " << c.m << " N " << c.n << " K " << c.k);
      const Values x(way.dtype, {c.m, c.k}, random_values(c.m * c.k, ++seed));
      const RandomCodes w(way.format, c.n, c.k, ++seed);
      const Linear linear = pack(*device, w, way);
      EXPECT_EQ(linear.data.size(), device->code_bytes(c.n, c.k, way.format, LinearKind::kPlain));
      const Values y(DType::kF32, {c.m, c.n});
      device->linear(x.tensor(), linear, Epilogue::kStore, y.tensor());
      expect_within(y.floats(), multiply(x.floats(), w, way, c));
      const Values plain(DType::kF32, {c.m, c.n});
      generic->linear(x.tensor(), pack(*generic, w, way), Epilogue::kStore, plain.tensor());
      ASSERT_EQ(y.floats(), plain.floats());
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

TEST_P(CodeLinearTest, RowsAreTheSameBitsInAnyBatchAndWithAnyThreads) {
  const int64_t m = 431, n = 210, k = 333;  // more rows than any kernel takes at once
  for (const Way& way : {Way{{type(), 0, false, DType::kF32}, Inputs::kFull, DType::kBF16},
                         {{type(), 0, false, DType::kBF16}, Inputs::kInt8, DType::kBF16},
                         {{type(), 32, true, DType::kF16}, Inputs::kFull, DType::kF32},
                         {{type(), 128, false, DType::kBF16}, Inputs::kInt8, DType::kF32}}) {
    SCOPED_TRACE(testing::Message() << way);
    const Values x(way.dtype, {m, k}, random_values(m * k, 7));
    const RandomCodes w(way.format, n, k, 8);
    std::vector<float> whole;
    for (const int threads : {1, 2, 3, 5}) {
      const auto device = make_cpu_device(threads, isa());
      const Linear linear = pack(*device, w, way);
      const Values y(DType::kF32, {m, n});
      device->linear(x.tensor(), linear, Epilogue::kStore, y.tensor());
      if (whole.empty()) whole = y.floats();
      ASSERT_EQ(y.floats(), whole) << threads << " threads";
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

TEST_P(CodeLinearTest, EpiloguesFollowTheSums) {
  const auto device = make_cpu_device(2, isa());
  const int64_t half = 45, k = 100;
  const Way way = {{type(), 32, false, DType::kBF16}, Inputs::kFull, DType::kBF16};
  const RandomCodes w(way.format, 2 * half, k, 1);
  const SomeRows gate(w, 0, half);
  const SomeRows up(w, half, 2 * half);
  const CodeRows* stacked[] = {&gate, &up};
  const std::vector<float> bias = random_values(2 * half, 2);
  const Linear plain = pack(*device, w, way);
  const Linear biased =
      device->pack_codes(stacked, way.dtype, way.inputs, LinearKind::kPlain, bias);
  const Linear gated =
      device->pack_codes(stacked, way.dtype, way.inputs, LinearKind::kGateUp, bias);
  EXPECT_EQ(gated.data.size(), device->code_bytes(2 * half, k, way.format, LinearKind::kGateUp));
  for (const int64_t m : {1, 3, 14, 70}) {
    SCOPED_TRACE(m);
    const Values x(way.dtype, {m, k}, random_values(m * k, 3));
    const Values sums(DType::kF32, {m, 2 * half});
    device->linear(x.tensor(), plain, Epilogue::kStore, sums.tensor());
    std::vector<float> expected = sums.floats();
    for (size_t i = 0; i < expected.size(); ++i) expected[i] += bias[i % bias.size()];
    const Values y(DType::kF32, {m, 2 * half});
    device->linear(x.tensor(), biased, Epilogue::kStore, y.tensor());
    EXPECT_EQ(y.floats(), expected);
    const Values rounded(DType::kBF16, {m, 2 * half});
    device->linear(x.tensor(), biased, Epilogue::kStore, rounded.tensor());
    EXPECT_EQ(rounded.floats(), Values(DType::kBF16, {m, 2 * half}, expected).floats());

    std::vector<double> products;
    for (int64_t r = 0; r < m; ++r) {
      for (int64_t i = 0; i < half; ++i) {
        const auto at = static_cast<size_t>(r * 2 * half + i);
        const double g = expected[at];
        products.push_back(g / (1 + std::exp(-g)) * expected[at + static_cast<size_t>(half)]);
      }
    }
    const Values product(DType::kF32, {m, half});
    device->linear(x.tensor(), gated, Epilogue::kSiluMul, product.tensor());
    EXPECT_LE(relative_l2(product.floats(), products), tolerance(DType::kF32));

    const Values residual(DType::kF32, {m, 2 * half}, std::vector<float>(expected.size(), 0.5F));
    device->linear(x.tensor(), biased, Epilogue::kAdd, residual.tensor());
    for (float& v : expected) v += 0.5F;
    EXPECT_EQ(residual.floats(), expected);
  }
}

TEST_P(CodeLinearTest, RowsThatAreNotFiniteGiveNanAndLeaveOthersAlone) {
  const auto device = make_cpu_device(1, isa());
  const int64_t m = 5, n = 37, k = 150;
  for (const Inputs inputs : {Inputs::kFull, Inputs::kInt8}) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      const Way way = {{type(), 64, true, DType::kF32}, inputs, dtype};
      const RandomCodes w(way.format, n, k, 1);
      const Linear linear = pack(*device, w, way);
      std::vector<float> x = random_values(m * k, 2);
      std::fill_n(x.begin() + 2 * k, k, 0.0F);
      std::fill_n(x.begin() + 4 * k, k, 1e-38F);
      const Values before(DType::kF32, {m, n});
      device->linear(Values(dtype, {m, k}, x).tensor(), linear, Epilogue::kStore, before.tensor());
      x[1 * k + 149] = std::numeric_limits<float>::quiet_NaN();
      x[3 * k + 7] = -std::numeric_limits<float>::infinity();
      const Values after(DType::kF32, {m, n});
      device->linear(Values(dtype, {m, k}, x).tensor(), linear, Epilogue::kStore, after.tensor());
      for (int64_t i = 0; i < m * n; ++i) {
        const float value = after.floats()[static_cast<size_t>(i)];
        if (i / n == 1 || i / n == 3) {
          ASSERT_TRUE(std::isnan(value)) << i;
        } else {
          ASSERT_EQ(value, before.floats()[static_cast<size_t>(i)]) << i;
        }
        if (i / n == 2 || i / n == 4) {
          ASSERT_EQ(value, 0.0F) << i;
        }
      }
    }
  }
}

TEST_P(CodeLinearTest, ExpertsMatchLinears) {
  const auto device = make_cpu_device(2, isa());
  const int64_t tokens = 9, n = 50, k = 70, experts = 4;
  const Way way = {{type(), 32, false, DType::kF32}, Inputs::kFull, DType::kBF16};
  const Values x(way.dtype, {tokens, k}, random_values(tokens * k, 1));
  Experts weights;
  for (uint32_t e = 0; e < experts; ++e) {
    weights.linears.push_back(pack(*device, RandomCodes(way.format, n, k, e), way));
  }
  weights.linears[1].data = {};  // nobody chooses it: it may not be read
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
  for (int64_t s = 0; s < tokens; ++s) {
    const size_t e = s < 4 ? 0 : s < 5 ? 2 : 3;
    const int64_t row = token[static_cast<size_t>(s)];
    const Values alone(DType::kF32, {1, n});
    device->linear(x.rows(row, row + 1), weights.linears[e], Epilogue::kStore, alone.tensor());
    const std::vector<float> all = y.floats();
    ASSERT_EQ(std::vector<float>(all.begin() + s * n, all.begin() + (s + 1) * n), alone.floats())
        << "slot " << s;
  }
}

TEST_P(CodeLinearTest, RefusesGroupsAndScalesThatNoKernelTakes) {
  const auto device = make_cpu_device(1, isa());
  EXPECT_THROW(device->code_bytes(8, 8, {type(), 16, false, DType::kF32}, LinearKind::kPlain),
               Error);
  EXPECT_THROW(device->code_bytes(8, 8, {type(), 32, false, DType::kI32}, LinearKind::kPlain),
               Error);
}

std::string name_of(const testing::TestParamInfo<std::tuple<std::string, CodeType>>& info) {
  return std::get<0>(info.param) + (std::get<1>(info.param) == CodeType::kInt8 ? "_int8" : "_int4");
}

INSTANTIATE_TEST_SUITE_P(Isas, CodeLinearTest,
                         testing::Combine(testing::ValuesIn(available_isas()),
                                          testing::Values(CodeType::kInt8, CodeType::kInt4)),
                         name_of);

}  // namespace
}  // namespace erne::test
