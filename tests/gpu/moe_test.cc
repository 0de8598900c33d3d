// Routing, grouped linears and their sum on a GPU, against the CPU and bit for bit against dense
// linears.
#include <gtest/gtest.h>

#include "cpu/cpu_device.h"
#include "gpu/test_device.h"

namespace erne::test {
namespace {

/// A Routing whose arrays are in a device's memory.
struct OwnedRouting {
  OwnedRouting(Device& device, int64_t tokens, int64_t top_k, int64_t experts)
      : device_(device),
        arena_(device.allocate(
            static_cast<size_t>(tokens * top_k * 16 + (experts + 1) * 4 + 64 * 5))) {
    routing.num_tokens = tokens;
    routing.top_k = top_k;
    routing.num_experts = experts;
    routing.expert_ids = arena_.take(DType::kI32, {tokens * top_k}).ptr<int32_t>();
    routing.weights = arena_.take(DType::kF32, {tokens * top_k}).ptr<float>();
    routing.expert_start = arena_.take(DType::kI32, {experts + 1}).ptr<int32_t>();
    routing.slot_token = arena_.take(DType::kI32, {tokens * top_k}).ptr<int32_t>();
    routing.slot_of = arena_.take(DType::kI32, {tokens * top_k}).ptr<int32_t>();
  }
  int64_t slots() const { return routing.num_tokens * routing.top_k; }
  std::vector<int32_t> ids() const { return read_ints(device_, routing.expert_ids, slots()); }
  std::vector<int32_t> start() const {
    return read_ints(device_, routing.expert_start, routing.num_experts + 1);
  }
  std::vector<int32_t> tokens() const { return read_ints(device_, routing.slot_token, slots()); }
  std::vector<int32_t> slot_of() const { return read_ints(device_, routing.slot_of, slots()); }
  std::vector<float> weights() const {
    const Tensor host = device_.to_host({routing.weights, DType::kF32, {slots()}});
    return {host.ptr<float>(), host.ptr<float>() + slots()};
  }
  Routing routing;

 private:
  Device& device_;
  Arena arena_;
};

class GpuMoe : public testing::TestWithParam<DType> {
 protected:
  const std::unique_ptr<Device> device_ = make_test_device();
  const std::unique_ptr<Device> cpu_ = make_cpu_device(1, "generic");
};

struct Sizes {
  int64_t tokens, width, experts, top_k;
};

TEST_P(GpuMoe, RoutesAsTheCpu) {
  for (const Sizes s : {Sizes{1, 64, 8, 2}, Sizes{37, 70, 13, 4}, Sizes{5, 33, 64, 6},
                        Sizes{130, 32, 130, 8}, Sizes{3, 16, 4, 4}, Sizes{9, 8, 1, 1}}) {
    const Values h(GetParam(), {s.tokens, s.width}, random_values(s.tokens * s.width, 1));
    const Values w(DType::kF32, {s.experts, s.width}, random_values(s.experts * s.width, 2, 0.2F));
    const std::vector<float> bias = random_values(s.experts, 3, 0.1F);
    const DeviceValues h_there(*device_, h), w_there(*device_, w);
    const Buffer bias_there = device_->upload(bias);
    OwnedRouting ours(*device_, s.tokens, s.top_k, s.experts);
    OwnedRouting theirs(*cpu_, s.tokens, s.top_k, s.experts);
    device_->route(h_there.tensor(), {&w_there.tensor(), bias_there.as<float>(), s.top_k, 1e-12F},
                   ours.routing);
    cpu_->route(h.tensor(), {&w.tensor(), bias.data(), s.top_k, 1e-12F}, theirs.routing);
    EXPECT_EQ(ours.ids(), theirs.ids());
    EXPECT_EQ(ours.start(), theirs.start());
    EXPECT_EQ(ours.tokens(), theirs.tokens());
    EXPECT_EQ(ours.slot_of(), theirs.slot_of());
    const std::vector<float> weights = ours.weights();
    for (size_t i = 0; i < weights.size(); ++i) EXPECT_NEAR(weights[i], theirs.weights()[i], 1e-6F);
  }
}

TEST_P(GpuMoe, TiesGoToTheLowerExpert) {
  const DeviceValues h(*device_, Values(GetParam(), {2, 8}, std::vector<float>(16, 1.0F)));
  const DeviceValues w(*device_, Values(DType::kF32, {6, 8}));
  const Buffer bias = device_->upload(std::vector<float>{0, 0, 0, 0, 1, -0.0F});
  OwnedRouting owned(*device_, 2, 3, 6);
  device_->route(h.tensor(), {&w.tensor(), bias.as<float>(), 3, 1e-12F}, owned.routing);
  EXPECT_EQ(owned.ids(), (std::vector<int32_t>{4, 0, 1, 4, 0, 1}));
  EXPECT_EQ(owned.start(), (std::vector<int32_t>{0, 2, 4, 4, 4, 6, 6}));
  EXPECT_EQ(owned.tokens(), (std::vector<int32_t>{0, 1, 0, 1, 0, 1}));
}

TEST_P(GpuMoe, NaNsStillChooseExpertsThatExist) {
  const DeviceValues h(*device_, Values(GetParam(), {1, 8}, std::vector<float>(8, NAN)));
  const DeviceValues w(*device_, Values(DType::kF32, {6, 8}, std::vector<float>(48, 1.0F)));
  const Buffer bias = device_->upload(std::vector<float>(6));
  OwnedRouting owned(*device_, 1, 3, 6);
  device_->route(h.tensor(), {&w.tensor(), bias.as<float>(), 3, 1e-12F}, owned.routing);
  EXPECT_EQ(owned.ids(), (std::vector<int32_t>{0, 1, 2}));
}

/// Experts of random weights.
Experts make_experts(Device& device, DType dtype, int64_t experts, int64_t n, int64_t k,
                     LinearKind kind) {
  std::vector<Linear> linears;
  const int64_t parts = kind == LinearKind::kGateUp ? 2 : 1;
  for (uint32_t e = 0; e < experts; ++e) {
    const Values w(dtype, {n, k}, random_values(n * k, 20 + e, 0.15F));
    MatrixView blocks[2];
    for (int64_t p = 0; p < parts; ++p)
      blocks[p] = {w.rows(p * n / parts, n).data, dtype, n / parts, k, k, 1};
    linears.push_back(device.pack_linear({blocks, static_cast<size_t>(parts)}, dtype, kind, {}));
  }
  return device.group_experts(std::move(linears));
}

// Experts 1, 4 and 6 are empty; expert 3 gets more rows than a tile holds; or one gets all.
TEST_P(GpuMoe, ExpertsAreTheSameBitsAsLinears) {
  const int64_t width = 66, inner = 40, experts = 7;
  for (const bool one_for_all : {false, true}) {
    const int64_t tokens = 31;
    std::vector<int32_t> start = {0, 2, 2, 5, 24, 24, 31, 31};
    if (one_for_all) start = {0, 0, 0, 31, 31, 31, 31, 31};
    std::vector<int32_t> token(static_cast<size_t>(tokens));
    for (size_t i = 0; i < token.size(); ++i) token[i] = static_cast<int32_t>(i * 12 % 31);
    std::vector<float> ints(start.size() + token.size());
    std::memcpy(ints.data(), start.data(), start.size() * 4);
    std::memcpy(ints.data() + start.size(), token.data(), token.size() * 4);
    Buffer there = device_->upload(ints);
    Routing routing;
    routing.num_tokens = tokens;
    routing.top_k = 1;
    routing.num_experts = experts;
    routing.expert_start = there.as<int32_t>();
    routing.slot_token = there.as<int32_t>() + start.size();

    const DeviceValues h(*device_,
                         Values(GetParam(), {tokens, width}, random_values(tokens * width, 4)));
    const Experts gate_up =
        make_experts(*device_, GetParam(), experts, 2 * inner, width, LinearKind::kGateUp);
    const DeviceValues act(*device_, GetParam(), {tokens, inner});
    device_->expert_linear(h.tensor(), ExpertRows::kByToken, gate_up, routing, Epilogue::kSiluMul,
                           act.tensor());
    const Experts down =
        make_experts(*device_, GetParam(), experts, width, inner, LinearKind::kPlain);
    const DeviceValues y(*device_, DType::kF32, {tokens, width});
    device_->expert_linear(act.tensor(), ExpertRows::kBySlot, down, routing, Epilogue::kStore,
                           y.tensor());
    EXPECT_TRUE(act.guards_hold() && y.guards_hold());

    const DeviceValues alone(*device_, GetParam(), {tokens, inner});
    const DeviceValues last(*device_, DType::kF32, {tokens, width});
    for (int64_t s = 0; s < tokens; ++s) {
      size_t e = 0;
      while (s >= start[e + 1]) ++e;
      const int64_t row = token[static_cast<size_t>(s)];
      device_->linear(h.rows(row, row + 1), gate_up.linears[e], Epilogue::kSiluMul,
                      alone.rows(s, s + 1));
      device_->linear(alone.rows(s, s + 1), down.linears[e], Epilogue::kStore, last.rows(s, s + 1));
    }
    EXPECT_EQ(act.floats(), alone.floats());
    EXPECT_EQ(y.floats(), last.floats());
  }
}

TEST_P(GpuMoe, RefusesExpertsOfDifferentFormats) {
  std::vector<Linear> linears(2);
  linears[1].codes = CodeFormat{};
  EXPECT_THROW(device_->group_experts(std::move(linears)), Error);
}

INSTANTIATE_TEST_SUITE_P(Types, GpuMoe, testing::Values(DType::kF32, DType::kBF16),
                         [](const auto& which) { return std::string(dtype_name(which.param)); });

}  // namespace
}  // namespace erne::test
