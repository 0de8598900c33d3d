// The operations that a model may call: each checks shapes, takes its result from the step's arena
// and hands the work to the device. Model code calls nothing below this file.
//
// T tokens of the step, H hidden, N query heads, K kv heads, D head_dim, E experts, I intermediate,
// V vocabulary. The residual stream x is always f32; everything else has the compute dtype (f32 or
// bf16). Results live until the arena is reset or the Mark around them ends. A wrong shape is a bug
// of the model's code: it aborts (ERNE_CHECK).
#pragma once

#include <cstdint>
#include <span>

#include "device/device.h"
#include "ops/ctx.h"

namespace erne::ops {

/// x[t, :] = table[ids[t], :].  -> f32 [T, H]
Tensor embed(Ctx& ctx, const Embedding& table, std::span<const int32_t> ids);

/// y[r, :] = x[rows[r], :] / sqrt(mean(x^2) + eps) * w; no rows means all of x.  x f32 [T, H], w
/// f32 [H] -> dtype [rows or T, H]
Tensor rms_norm(Ctx& ctx, const Tensor& x, const Buffer& w, float eps, DType dtype,
                std::span<const int32_t> rows = {});

/// y = x w^T + bias.  x [M, k] in w.dtype -> dtype [M, n]
Tensor linear(Ctx& ctx, const Tensor& x, const Linear& w, DType dtype);

/// The same into a tensor that exists already: y [M, n], f32 or w.dtype.
void linear_into(Ctx& ctx, const Tensor& x, const Linear& w, const Tensor& y);

/// residual += x w^T + bias.  x [M, k]; residual f32 [M, n]
void linear_add(Ctx& ctx, const Tensor& x, const Linear& w, const Tensor& residual);

/// silu(x gate^T) * (x up^T), w packed as kGateUp.  x [M, k] -> [M, n / 2] in w.dtype
Tensor gated_linear(Ctx& ctx, const Tensor& x, const Linear& w);

/// Rotates q (in place) and k of qkv [T, (N + 2K) D] by position and stores k and v in the cache.
void rope_store(Ctx& ctx, const Tensor& qkv, const Batch& batch, const RopeArgs& args,
                KvCache& cache);

/// Causal attention of the rotated q over the cache.  qkv as above -> [T, N D]
Tensor attention(Ctx& ctx, const Tensor& qkv, const Batch& batch, const AttentionArgs& args,
                 const KvCache& cache);

/// Softmax router (spec text.md 3.6).  h [T, H]
Routing route(Ctx& ctx, const Tensor& h, const RouterArgs& args);

/// Every chosen (token, expert) pair through that expert's gated_linear.  h [T, H] -> [T * top_k,
/// I], grouped by expert
Tensor expert_gated_linear(Ctx& ctx, const Tensor& h, const Experts& experts,
                           const Routing& routing);

/// Every grouped row through its expert's linear.  x [T * top_k, I] -> f32 [T * top_k, H]
Tensor expert_linear(Ctx& ctx, const Tensor& x, const Experts& experts, const Routing& routing);

/// residual[t, :] += sum over choices of weight * y.  y as expert_linear gives it
void expert_combine(Ctx& ctx, const Tensor& y, const Routing& routing, const Tensor& residual);

}  // namespace erne::ops
