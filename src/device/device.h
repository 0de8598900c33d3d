// The border between the model and a machine: the tensors and fused operations that a transformer
// step needs.
//
// A Device computes; it never sees a model, a request or a file. Shapes are checked once, in
// ops/ops.cc, before a call arrives here. All results are a pure function of a row's own inputs:
// batch mates, chunking and thread count never change a bit of it (design promise 2), so every sum
// runs in one fixed order that depends on the problem's K (or on absolute positions, for attention)
// alone. src/cpu implements it for CPUs, once plainly (ISA "generic", the specification) and once
// fast; a GPU backend implements the same list.
//
// Tensors, Buffers and Routing arrays lie in the device's memory, which the host may not be able to
// read: values go in through upload() and the pack functions, and come out through to_host().
// MatrixView, CodeRows and the spans of a Batch are host memory. Calls may return before the work
// is done.
//
// Names: T tokens in the step, H hidden, N query heads, K kv heads, D head_dim, E experts, V
// vocabulary.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "device/draw.h"
#include "device/kv_cache.h"
#include "device/step.h"
#include "device/weights.h"
#include "tensor/buffer.h"
#include "tensor/code_rows.h"
#include "tensor/tensor.h"

namespace erne {

struct DeviceInfo {
  std::string name;       ///< "cpu"
  std::string detail;     ///< "AMD EPYC, avx512_bf16, 2 threads"
  uint64_t memory_bytes;  ///< that this process may use
  int num_threads = 0;    ///< that compute
  int memory_nodes = 1;   ///< whose memory it places by itself
};

class Device {
 public:
  virtual ~Device() = default;
  virtual const DeviceInfo& info() const = 0;

  // --- memory
  virtual Buffer allocate(size_t bytes) = 0;
  /// Bytes free in the device's own memory; nothing for a device that computes in the host's.
  virtual std::optional<uint64_t> own_free_bytes() const { return std::nullopt; }
  /// Constants of a model (norm weights, biases, frequencies) copied into the device's memory.
  virtual Buffer upload(std::span<const float> values) = 0;
  /// t's values where the host can read them, all calls so far done: t itself, or a copy that lasts
  /// until the next to_host().
  virtual Tensor to_host(const Tensor& t) = 0;
  /// Sets every byte.
  virtual void fill(Buffer& buffer, uint8_t byte) = 0;
  /// Packs row blocks (stacked in order) into one weight of `dtype`. For kGateUp: exactly two
  /// blocks of equal shape, gate then up. bias: f32 [n] or empty. Reads the views in parallel,
  /// straight from the mapped file.
  virtual Linear pack_linear(std::span<const MatrixView> blocks, DType dtype, LinearKind kind,
                             std::span<const float> bias) = 0;
  /// The same of quantised rows, all of one format; dtype is that of the inputs, which are also
  /// rounded as far as the format asks for. A format's rotation is applied to the inputs.
  virtual Linear pack_codes(std::span<const CodeRows* const> blocks, DType dtype, Inputs inputs,
                            LinearKind kind, std::span<const float> bias) = 0;
  /// Bytes that pack_linear would allocate for the data.
  virtual size_t linear_bytes(int64_t n, int64_t k, DType dtype, LinearKind kind) const = 0;
  /// Bytes that pack_codes would allocate for the data.
  virtual size_t code_bytes(int64_t n, int64_t k, const CodeFormat& format,
                            LinearKind kind) const = 0;
  /// Names how pack_linear (codes absent) and pack_codes order a weight's bytes, and the version;
  /// devices of one name read each other's weights. Empty: this device's cannot be kept.
  virtual std::string weight_layout(DType /*dtype*/,
                                    const std::optional<CodeFormat>& /*codes*/) const {
    return {};
  }
  /// Takes a weight that was packed before. Throws Error{kUnsupported} for another layout,
  /// Error{kCorrupt} where w.data has not the size that n and k ask for.
  virtual Linear open_linear(const PackedWeight& w, Inputs inputs, WeightPlace place,
                             std::span<const float> bias);
  /// Makes the linears of one layer's experts, packed by this device, ready for expert_linear.
  virtual Experts group_experts(std::vector<Linear> linears) = 0;
  /// Throws Error{kUnsupported} for element types that it cannot hold.
  virtual Embedding pack_embedding(const MatrixView& table) = 0;
  /// Bytes that pack_embedding would allocate.
  virtual size_t embedding_bytes(const MatrixView& table) const = 0;
  virtual size_t kv_block_bytes(const KvCacheSpec& spec) const = 0;
  virtual KvCache make_kv_cache(const KvCacheSpec& spec, int32_t num_blocks) = 0;

  // --- one step. x is the f32 residual stream [T, H]; h, q, … have the compute dtype (f32 or bf16)
  // of the tensors given.
  /// Announces the step: every Batch, ids and rows of the calls that follow are this batch's own
  /// spans, unchanged until the next begin_step(). A device with memory of its own copies them over
  /// once.
  virtual void begin_step(const Batch& batch) = 0;
  /// x[t, :] = table[ids[t], :].
  virtual void embed(const Embedding& table, std::span<const int32_t> ids, const Tensor& x) = 0;
  /// y[r, :] = x[rows[r], :] / sqrt(mean(x^2) + eps) * w; rows empty means all; w in the
  /// device's memory. Zhang & Sennrich 2019. Sums in f32.
  virtual void rms_norm(const Tensor& x, std::span<const int32_t> rows, const float* w, float eps,
                        const Tensor& y) = 0;
  /// y = epilogue(x w^T). x [M, k] in w.dtype; sums in f32.
  virtual void linear(const Tensor& x, const Linear& w, Epilogue epilogue, const Tensor& y) = 0;
  /// qkv [T, (N + 2K) D]: rotates adjacent pairs of q (in place) and k by position (spec
  /// text.md 3.4, always f32, rounded once), and writes k and v of every token to its place in the
  /// cache. With fixed scales q takes in those of the keys, for attention().
  virtual void rope_store(const Tensor& qkv, const Batch& batch, const RopeArgs& args,
                          KvCache& cache) = 0;
  /// out [T, N D]: causal attention of the q part of qkv over the cache, f32 softmax; query head n
  /// uses kv head n / (N/K).
  virtual void attention(const Tensor& qkv, const Batch& batch, const AttentionArgs& args,
                         const KvCache& cache, const Tensor& out) = 0;
  /// Softmax router of spec text.md 3.6 in f32; fills every array of `routing`.
  virtual void route(const Tensor& h, const RouterArgs& args, Routing& routing) = 0;
  /// Grouped linear: slot s of expert e gives y[s, :] = epilogue(x[row(s), :] experts[e]^T), row(s)
  /// by `rows`. kStore or kSiluMul. All experts in one call; only chosen experts are read.
  virtual void expert_linear(const Tensor& x, ExpertRows rows, const Experts& experts,
                             const Routing& routing, Epilogue epilogue, const Tensor& y) = 0;
  /// x[t, :] += sum over the token's choices, in top-k order, of weights[t, j] * y[slot_of[t, j],
  /// :]; f32.
  virtual void expert_combine(const Tensor& y, const Routing& routing, const Tensor& x) = 0;
  /// Called once by the thread that will issue every step from now on.
  virtual void bind_caller() {}
  /// Whether draw() works for rows of `vocab` logits. A device that computes in the host's memory
  /// needs none: whoever draws reads the rows in place.
  virtual bool draws(int64_t /*vocab*/) const { return false; }
  /// One token id a draw, from logits f32 [M, V]: that of Sampler::sample for the same row, but
  /// where sums of weights round differently. -1 if a logit is NaN or +inf or none is finite.
  /// Overwrites the rows that have edits. In the host's memory until the next call.
  virtual std::span<const int32_t> draw(const Tensor& /*logits*/, std::span<const Draw> /*draws*/,
                                        std::span<const LogitEdit> /*edits*/) {
    return {};
  }
  /// Returns when everything issued so far has finished.
  virtual void synchronize() = 0;
};

inline Linear Device::open_linear(const PackedWeight& w, Inputs /*inputs*/, WeightPlace /*place*/,
                                  std::span<const float> /*bias*/) {
  fail(Code::kUnsupported, "device {} cannot use weights of layout '{}'", info().name, w.layout);
}

}  // namespace erne
