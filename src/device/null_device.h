// A device that computes nothing: sizes arenas by a dry run (TextModel::arena_bytes) and measures,
// as `--device null`, everything that is not the model. Packed weights are empty; the KV cache has
// no memory.
#pragma once

#include "device/device.h"

namespace erne {

class NullDevice : public Device {
 public:
  const DeviceInfo& info() const override { return info_; }
  Buffer allocate(size_t bytes) override { return Buffer::host(bytes); }
  Buffer upload(std::span<const float> values) override {
    return Buffer::host(values.size_bytes());
  }
  Tensor to_host(const Tensor& t) override { return t; }
  void fill(Buffer&, uint8_t) override {}
  Linear pack_linear(std::span<const MatrixView> blocks, DType dtype, LinearKind kind,
                     std::span<const float>) override {
    Linear w;
    for (const MatrixView& block : blocks) w.n += block.rows;
    w.k = blocks.front().cols;
    w.dtype = dtype;
    w.kind = kind;
    return w;
  }
  Linear pack_codes(std::span<const CodeRows* const> blocks, DType dtype, Inputs inputs,
                    LinearKind kind, std::span<const float>) override {
    Linear w;
    for (const CodeRows* block : blocks) w.n += block->rows();
    w.k = blocks.front()->cols();
    w.dtype = dtype;
    w.codes = blocks.front()->format();
    w.inputs = inputs;
    w.kind = kind;
    return w;
  }
  size_t linear_bytes(int64_t, int64_t, DType, LinearKind) const override { return 0; }
  size_t code_bytes(int64_t, int64_t, const CodeFormat&, LinearKind) const override { return 0; }
  Experts group_experts(std::vector<Linear> linears) override { return {std::move(linears), {}}; }
  Embedding pack_embedding(const MatrixView& table) override { return {table, {}}; }
  size_t embedding_bytes(const MatrixView&) const override { return 0; }
  size_t kv_block_bytes(const KvCacheSpec& spec) const override {
    return static_cast<size_t>(2 * int64_t{spec.layers} * spec.kv_heads * spec.head_dim *
                               spec.block_tokens) *
           dtype_bytes(spec.dtype);
  }
  KvCache make_kv_cache(const KvCacheSpec& spec, int32_t num_blocks) override {
    return {spec, num_blocks, {}};
  }

  void begin_step(const Batch&) override {}
  void embed(const Embedding&, std::span<const int32_t>, const Tensor&) override {}
  void rms_norm(const Tensor&, std::span<const int32_t>, const float*, float,
                const Tensor&) override {}
  void linear(const Tensor&, const Linear&, Epilogue, const Tensor&) override {}
  void rope_store(const Tensor&, const Batch&, const RopeArgs&, KvCache&) override {}
  void attention(const Tensor&, const Batch&, const AttentionArgs&, const KvCache&,
                 const Tensor&) override {}
  void route(const Tensor&, const RouterArgs&, Routing&) override {}
  void expert_linear(const Tensor&, ExpertRows, const Experts&, const Routing&, Epilogue,
                     const Tensor&) override {}
  void expert_combine(const Tensor&, const Routing&, const Tensor&) override {}
  void synchronize() override {}

 private:
  DeviceInfo info_{"null", "computes nothing", 0};
};

}  // namespace erne
