// The MoE operations on every instruction set: the router's choice, grouped linears and the
// weighted sum, against double precision and bit for bit token by token.
#include <gtest/gtest.h>

#include "cpu/cpu_device.h"
#include "samples.h"

namespace erne::test {
namespace {

/// A Routing that owns its arrays.
struct OwnedRouting {
  OwnedRouting(int64_t tokens, int64_t top_k, int64_t experts)
      : ids(static_cast<size_t>(tokens * top_k)),
        start(static_cast<size_t>(experts + 1)),
        token(ids),
        slot(ids),
        weights(ids.size()) {
    routing = {tokens,         top_k,        experts,      ids.data(),
               weights.data(), start.data(), token.data(), slot.data()};
  }
  std::vector<int32_t> ids, start, token, slot;
  std::vector<float> weights;
  Routing routing;
};

class MoeTest : public testing::TestWithParam<std::tuple<std::string, DType>> {
 protected:
  std::string isa() const { return std::get<0>(GetParam()); }
  DType dtype() const { return std::get<1>(GetParam()); }
};

TEST_P(MoeTest, RouterChoosesByBiasedAndWeighsByPlainProbability) {
  const int64_t tokens = 37, width = 70, experts = 13, top_k = 4;
  const auto device = make_cpu_device(2, isa());
  const Values h(dtype(), {tokens, width}, random_values(tokens * width, 1));
  const Values w(DType::kF32, {experts, width}, random_values(experts * width, 2, 0.2F));
  const std::vector<float> bias = random_values(experts, 3, 0.1F);
  OwnedRouting owned(tokens, top_k, experts);
  device->route(h.tensor(), {&w.tensor(), bias.data(), top_k, 1e-12F}, owned.routing);
  const std::vector<float> x = h.floats();
  const std::vector<float> gate = w.floats();
  for (int64_t t = 0; t < tokens; ++t) {
    std::vector<double> p(static_cast<size_t>(experts));
    double sum = 0;
    for (int64_t e = 0; e < experts; ++e) {
      double logit = 0;
      for (int64_t i = 0; i < width; ++i) {
        logit += double{x[static_cast<size_t>(t * width + i)]} *
                 double{gate[static_cast<size_t>(e * width + i)]};
      }
      p[static_cast<size_t>(e)] = std::exp(logit);
      sum += std::exp(logit);
    }
    for (double& v : p) v /= sum;
    const int32_t* ids = owned.ids.data() + t * top_k;
    double chosen = 0;
    for (int64_t j = 0; j < top_k; ++j) chosen += p[static_cast<size_t>(ids[j])];
    const auto choice = [&](int32_t e) {
      return p[static_cast<size_t>(e)] + double{bias[static_cast<size_t>(e)]};
    };
    for (int64_t j = 0; j < top_k; ++j) {
      EXPECT_NEAR(owned.weights[static_cast<size_t>(t * top_k + j)],
                  p[static_cast<size_t>(ids[j])] / chosen, 1e-5);
      if (j > 0) {
        EXPECT_GE(choice(ids[j - 1]), choice(ids[j]) - 1e-6);
      }
    }
    for (int32_t e = 0; e < experts; ++e) {
      if (std::find(ids, ids + top_k, e) != ids + top_k) continue;
      EXPECT_LE(choice(e), choice(ids[top_k - 1]) + 1e-6);
    }
  }
  // The grouped order is a permutation, sorted by expert.
  for (int64_t i = 0; i < tokens * top_k; ++i) {
    const int32_t slot = owned.slot[static_cast<size_t>(i)];
    const auto e = static_cast<size_t>(owned.ids[static_cast<size_t>(i)]);
    EXPECT_GE(slot, owned.start[e]);
    EXPECT_LT(slot, owned.start[e + 1]);
    EXPECT_EQ(owned.token[static_cast<size_t>(slot)], i / top_k);
  }
}

TEST_P(MoeTest, TiesGoToTheLowerExpert) {
  const auto device = make_cpu_device(1, isa());
  const Values h(dtype(), {1, 8}, std::vector<float>(8, 1.0F));
  const Values w(DType::kF32, {6, 8});
  const std::vector<float> bias(6);
  OwnedRouting owned(1, 3, 6);
  device->route(h.tensor(), {&w.tensor(), bias.data(), 3, 1e-12F}, owned.routing);
  EXPECT_EQ(owned.ids, (std::vector<int32_t>{0, 1, 2}));
}

/// y = x + MoE(h) through the three grouped operations.
std::vector<float> run_experts(Device& device, const Values& h, int64_t begin, int64_t end,
                               const Values& gate, const std::vector<float>& bias,
                               const Experts& gate_up, const Experts& down, int64_t top_k) {
  const int64_t tokens = end - begin;
  const int64_t width = h.tensor().dim(1);
  OwnedRouting owned(tokens, top_k, static_cast<int64_t>(gate_up.linears.size()));
  device.route(h.rows(begin, end), {&gate.tensor(), bias.data(), top_k, 1e-12F}, owned.routing);
  const Values act(h.tensor().dtype, {tokens * top_k, gate_up.linears[0].n / 2});
  device.expert_linear(h.rows(begin, end), ExpertRows::kByToken, gate_up, owned.routing,
                       Epilogue::kSiluMul, act.tensor());
  const Values y(DType::kF32, {tokens * top_k, width});
  device.expert_linear(act.tensor(), ExpertRows::kBySlot, down, owned.routing, Epilogue::kStore,
                       y.tensor());
  const Values residual(DType::kF32, {tokens, width},
                        std::vector<float>(static_cast<size_t>(tokens * width), 0.25F));
  device.expert_combine(y.tensor(), owned.routing, residual.tensor());
  return residual.floats();
}

TEST_P(MoeTest, ExpertsMatchDenseLinearsAndAreTheSameBitsTokenByToken) {
  const int64_t tokens = 31, width = 66, inner = 40, experts = 7;
  for (const int64_t top_k : {int64_t{1}, int64_t{3}}) {
    const Values h(dtype(), {tokens, width}, random_values(tokens * width, 4));
    const Values gate(DType::kF32, {experts, width}, random_values(experts * width, 5, 0.2F));
    const std::vector<float> bias = random_values(experts, 6, 0.05F);
    std::vector<float> first;
    for (const int threads : {1, 2, 5}) {
      const auto device = make_cpu_device(threads, isa());
      Experts gate_up;
      Experts down;
      for (uint32_t e = 0; e < experts; ++e) {
        const Values g(dtype(), {2 * inner, width},
                       random_values(2 * inner * width, 20 + e, 0.15F));
        const Values d(dtype(), {width, inner}, random_values(inner * width, 40 + e, 0.15F));
        const MatrixView pair[] = {
            {g.tensor().data, dtype(), inner, width, width, 1},
            {g.rows(inner, 2 * inner).data, dtype(), inner, width, width, 1}};
        const MatrixView plain = d.view();
        gate_up.linears.push_back(device->pack_linear(pair, dtype(), LinearKind::kGateUp, {}));
        down.linears.push_back(device->pack_linear({&plain, 1}, dtype(), LinearKind::kPlain, {}));
      }
      const std::vector<float> whole =
          run_experts(*device, h, 0, tokens, gate, bias, gate_up, down, top_k);
      if (first.empty()) first = whole;
      ASSERT_EQ(whole, first) << threads << " threads";
      if (threads > 2) continue;
      std::vector<float> single;
      for (int64_t t = 0; t < tokens; ++t) {
        const std::vector<float> row =
            run_experts(*device, h, t, t + 1, gate, bias, gate_up, down, top_k);
        single.insert(single.end(), row.begin(), row.end());
      }
      ASSERT_EQ(single, first) << threads << " threads";

      // The same through the dense operations, one token and choice at a time.
      OwnedRouting owned(tokens, top_k, experts);
      device->route(h.tensor(), {&gate.tensor(), bias.data(), top_k, 1e-12F}, owned.routing);
      for (int64_t t = 0; t < tokens; ++t) {
        std::vector<float> sum(static_cast<size_t>(width));
        for (int64_t j = 0; j < top_k; ++j) {
          const auto e = static_cast<size_t>(owned.ids[static_cast<size_t>(t * top_k + j)]);
          const Values act(dtype(), {1, inner});
          device->linear(h.rows(t, t + 1), gate_up.linears[e], Epilogue::kSiluMul, act.tensor());
          const Values y(DType::kF32, {1, width});
          device->linear(act.tensor(), down.linears[e], Epilogue::kStore, y.tensor());
          for (size_t i = 0; i < sum.size(); ++i) {
            sum[i] += owned.weights[static_cast<size_t>(t * top_k + j)] * y.floats()[i];
          }
        }
        for (size_t i = 0; i < sum.size(); ++i) {
          ASSERT_NEAR(first[static_cast<size_t>(t * width) + i], 0.25F + sum[i], 1e-5F);
        }
      }
    }
  }
}

std::string name_of(const testing::TestParamInfo<std::tuple<std::string, DType>>& info) {
  return std::get<0>(info.param) + "_" + std::string(dtype_name(std::get<1>(info.param)));
}

INSTANTIATE_TEST_SUITE_P(Isas, MoeTest,
                         testing::Combine(testing::ValuesIn(available_isas()),
                                          testing::Values(DType::kF32, DType::kBF16)),
                         name_of);

}  // namespace
}  // namespace erne::test
