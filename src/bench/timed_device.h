// A Device that passes every call on to another one and notes what it took: seconds, bytes and
// multiply-adds by the part of the network that the call belongs to.
//
// Bytes are those that must move if nothing is cached: weights once, inputs and results once.
#pragma once

#include <chrono>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "device/device.h"

namespace erne::bench {

/// The parts of a step (spec text.md 3). kExperts holds the chosen experts' linears and their sum;
/// shared experts and dense layers are kGateUp and kDown.
enum class Op : uint8_t {
  kEmbed,
  kNormRope,
  kQkv,
  kAttention,
  kO,
  kGateUp,
  kDown,
  kRouter,
  kExperts,
  kLmHead,
};
inline constexpr size_t kNumOps = 10;

/// "embed", "norm+rope", "qkv", …
std::string_view op_name(Op op);

/// One call of the device.
struct OpCall {
  Op op = Op::kEmbed;
  double seconds = 0;
  double bytes = 0;
  double flops = 0;  ///< two per multiply-add
};

/// One thread calls it, as the step does. `inner` outlives it.
class TimedDevice final : public Device {
 public:
  explicit TimedDevice(Device& inner) : inner_(inner) {}

  /// The calls since the last take(), in order. Equal steps make equal lists but for the seconds.
  std::vector<OpCall> take() { return std::exchange(calls_, {}); }

  const DeviceInfo& info() const override { return inner_.info(); }
  Buffer allocate(size_t bytes) override { return inner_.allocate(bytes); }
  std::optional<uint64_t> own_free_bytes() const override { return inner_.own_free_bytes(); }
  Buffer upload(std::span<const float> values) override { return inner_.upload(values); }
  Tensor to_host(const Tensor& t) override { return inner_.to_host(t); }
  void fill(Buffer& buffer, uint8_t byte) override { inner_.fill(buffer, byte); }
  Linear pack_linear(std::span<const MatrixView> blocks, DType dtype, LinearKind kind,
                     std::span<const float> bias) override {
    return inner_.pack_linear(blocks, dtype, kind, bias);
  }
  Linear pack_codes(std::span<const CodeRows* const> blocks, DType dtype, Inputs inputs,
                    LinearKind kind, std::span<const float> bias) override {
    return inner_.pack_codes(blocks, dtype, inputs, kind, bias);
  }
  void bind_caller() override { inner_.bind_caller(); }
  std::string weight_layout(DType dtype, const std::optional<CodeFormat>& codes) const override {
    return inner_.weight_layout(dtype, codes);
  }
  Linear open_linear(const PackedWeight& w, Inputs inputs, WeightPlace place,
                     std::span<const float> bias) override {
    return inner_.open_linear(w, inputs, place, bias);
  }
  size_t linear_bytes(int64_t n, int64_t k, DType dtype, LinearKind kind) const override {
    return inner_.linear_bytes(n, k, dtype, kind);
  }
  size_t code_bytes(int64_t n, int64_t k, const CodeFormat& format,
                    LinearKind kind) const override {
    return inner_.code_bytes(n, k, format, kind);
  }
  Experts group_experts(std::vector<Linear> linears) override {
    return inner_.group_experts(std::move(linears));
  }
  Embedding pack_embedding(const MatrixView& table) override {
    return inner_.pack_embedding(table);
  }
  size_t embedding_bytes(const MatrixView& table) const override {
    return inner_.embedding_bytes(table);
  }
  size_t kv_block_bytes(const KvCacheSpec& spec) const override {
    return inner_.kv_block_bytes(spec);
  }
  KvCache make_kv_cache(const KvCacheSpec& spec, int32_t num_blocks) override {
    return inner_.make_kv_cache(spec, num_blocks);
  }

  void begin_step(const Batch& batch) override { inner_.begin_step(batch); }
  void embed(const Embedding& table, std::span<const int32_t> ids, const Tensor& x) override;
  void rms_norm(const Tensor& x, std::span<const int32_t> rows, const float* w, float eps,
                const Tensor& y) override;
  void linear(const Tensor& x, const Linear& w, Epilogue epilogue, const Tensor& y) override;
  void rope_store(const Tensor& qkv, const Batch& batch, const RopeArgs& args,
                  KvCache& cache) override;
  void attention(const Tensor& qkv, const Batch& batch, const AttentionArgs& args,
                 const KvCache& cache, const Tensor& out) override;
  void route(const Tensor& h, const RouterArgs& args, Routing& routing) override;
  void expert_linear(const Tensor& x, ExpertRows rows, const Experts& experts,
                     const Routing& routing, Epilogue epilogue, const Tensor& y) override;
  void expert_combine(const Tensor& y, const Routing& routing, const Tensor& x) override;
  bool draws(int64_t vocab) const override { return inner_.draws(vocab); }
  std::span<const int32_t> draw(const Tensor& logits, std::span<const Draw> draws,
                                std::span<const LogitEdit> edits) override {
    return inner_.draw(logits, draws, edits);
  }
  void synchronize() override { inner_.synchronize(); }

 private:
  using Clock = std::chrono::steady_clock;
  /// `bytes` and `flops` are those of the call that began at `begin`.
  void note(Op op, Clock::time_point begin, double bytes, double flops);
  Op op_of(Epilogue epilogue) const;

  Device& inner_;
  std::vector<OpCall> calls_;
  // What a linear is shows in what came before it.
  Op last_ = Op::kEmbed;
  bool picked_rows_ = false;  // the last norm was that of the rows whose logits are wanted
};

}  // namespace erne::bench
