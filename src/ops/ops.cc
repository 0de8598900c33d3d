// Checks and dispatch; the only place where shapes are verified before a device trusts them.
#include "ops/ops.h"

#include <utility>

#include "base/error.h"

namespace erne::ops {
namespace {

void check_linear(const Tensor& x, const Linear& w, int64_t y_rows, int64_t y_cols,
                  int64_t want_cols) {
  ERNE_CHECK(x.shape.rank() == 2 && x.dim(1) == w.k && x.dtype == w.dtype,
             "x {} {}, weight [{}, {}] {}", x.shape.str(), dtype_name(x.dtype), w.n, w.k,
             dtype_name(w.dtype));
  ERNE_CHECK(y_rows == x.dim(0) && y_cols == want_cols, "y [{}, {}] for x {}", y_rows, y_cols,
             x.shape.str());
}

// Whether a cache of type `cache` can hold rows of type `rows`.
bool takes(DType cache, DType rows) {
  return rows == DType::kF32 || (rows == DType::kBF16 && cache != DType::kF32);
}

void check_qkv(const Tensor& qkv, const Batch& batch, int num_heads, const KvChannels* channels,
               const KvCacheSpec& spec) {
  const int64_t width = int64_t{num_heads + 2 * spec.kv_heads} * spec.head_dim;
  ERNE_CHECK(qkv.shape == Shape({batch.num_tokens(), width}) && takes(spec.dtype, qkv.dtype),
             "qkv {} {} for {} heads, {} kv heads of {} in {}", qkv.shape.str(),
             dtype_name(qkv.dtype), num_heads, spec.kv_heads, spec.head_dim,
             dtype_name(spec.dtype));
  ERNE_CHECK(spec.fixed_scales == (channels != nullptr));
  ERNE_CHECK(num_heads % spec.kv_heads == 0, "{} heads, {} kv heads", num_heads, spec.kv_heads);
}

template <typename T>
T* take(Ctx& ctx, DType dtype, int64_t count) {
  return ctx.arena.take(dtype, {count}).ptr<T>();
}

const Linear& first_expert(const Experts& experts, const Routing& routing, LinearKind kind) {
  const std::vector<Linear>& linears = experts.linears;
  ERNE_CHECK(static_cast<int64_t>(linears.size()) == routing.num_experts && !linears.empty());
  ERNE_CHECK(linears[0].kind == kind);
  return linears[0];
}

}  // namespace

Tensor embed(Ctx& ctx, const Embedding& table, std::span<const int32_t> ids) {
  const Tensor x = ctx.arena.take(DType::kF32, {static_cast<int64_t>(ids.size()), table.view.cols});
  ctx.device.embed(table, ids, x);
  return x;
}

Tensor rms_norm(Ctx& ctx, const Tensor& x, const Buffer& w, float eps, DType dtype,
                std::span<const int32_t> rows) {
  ERNE_CHECK(x.dtype == DType::kF32 && std::cmp_equal(w.size() / sizeof(float), x.dim(1)),
             "x {}, w of {} bytes", x.shape.str(), w.size());
  const int64_t count = rows.empty() ? x.dim(0) : static_cast<int64_t>(rows.size());
  const Tensor y = ctx.arena.take(dtype, {count, x.dim(1)});
  ctx.device.rms_norm(x, rows, w.as<float>(), eps, y);
  return y;
}

Tensor linear(Ctx& ctx, const Tensor& x, const Linear& w, DType dtype) {
  const Tensor y = ctx.arena.take(dtype, {x.dim(0), w.n});
  linear_into(ctx, x, w, y);
  return y;
}

void linear_into(Ctx& ctx, const Tensor& x, const Linear& w, const Tensor& y) {
  ERNE_CHECK(w.kind == LinearKind::kPlain && (y.dtype == DType::kF32 || y.dtype == w.dtype));
  check_linear(x, w, y.dim(0), y.dim(1), w.n);
  ctx.device.linear(x, w, Epilogue::kStore, y);
}

void linear_add(Ctx& ctx, const Tensor& x, const Linear& w, const Tensor& residual) {
  ERNE_CHECK(w.kind == LinearKind::kPlain && residual.dtype == DType::kF32);
  check_linear(x, w, residual.dim(0), residual.dim(1), w.n);
  ctx.device.linear(x, w, Epilogue::kAdd, residual);
}

Tensor gated_linear(Ctx& ctx, const Tensor& x, const Linear& w) {
  ERNE_CHECK(w.kind == LinearKind::kGateUp);
  const Tensor y = ctx.arena.take(w.dtype, {x.dim(0), w.n / 2});
  check_linear(x, w, y.dim(0), y.dim(1), w.n / 2);
  ctx.device.linear(x, w, Epilogue::kSiluMul, y);
  return y;
}

void rope_store(Ctx& ctx, const Tensor& qkv, const Batch& batch, const RopeArgs& args,
                KvCache& cache) {
  check_qkv(qkv, batch, args.num_heads, args.channels, cache.spec);
  ctx.device.rope_store(qkv, batch, args, cache);
}

Tensor attention(Ctx& ctx, const Tensor& qkv, const Batch& batch, const AttentionArgs& args,
                 const KvCache& cache) {
  check_qkv(qkv, batch, args.num_heads, args.channels, cache.spec);
  const Tensor out = ctx.arena.take(
      qkv.dtype, {batch.num_tokens(), int64_t{args.num_heads} * cache.spec.head_dim});
  ctx.device.attention(qkv, batch, args, cache, out);
  return out;
}

Routing route(Ctx& ctx, const Tensor& h, const RouterArgs& args) {
  ERNE_CHECK(args.weight->dtype == DType::kF32 && args.weight->dim(1) == h.dim(1));
  Routing r;
  r.num_tokens = h.dim(0);
  r.num_experts = args.weight->dim(0);
  r.top_k = args.top_k;
  ERNE_CHECK(r.top_k >= 1 && r.top_k <= r.num_experts);
  const int64_t slots = r.num_tokens * r.top_k;
  r.expert_ids = take<int32_t>(ctx, DType::kI32, slots);
  r.weights = take<float>(ctx, DType::kF32, slots);
  r.expert_start = take<int32_t>(ctx, DType::kI32, r.num_experts + 1);
  r.slot_token = take<int32_t>(ctx, DType::kI32, slots);
  r.slot_of = take<int32_t>(ctx, DType::kI32, slots);
  ctx.device.route(h, args, r);
  return r;
}

Tensor expert_gated_linear(Ctx& ctx, const Tensor& h, const Experts& experts,
                           const Routing& routing) {
  const Linear& w = first_expert(experts, routing, LinearKind::kGateUp);
  ERNE_CHECK(h.dim(0) == routing.num_tokens && h.dim(1) == w.k && h.dtype == w.dtype);
  const Tensor y = ctx.arena.take(h.dtype, {routing.num_tokens * routing.top_k, w.n / 2});
  ctx.device.expert_linear(h, ExpertRows::kByToken, experts, routing, Epilogue::kSiluMul, y);
  return y;
}

Tensor expert_linear(Ctx& ctx, const Tensor& x, const Experts& experts, const Routing& routing) {
  const Linear& w = first_expert(experts, routing, LinearKind::kPlain);
  ERNE_CHECK(x.dim(0) == routing.num_tokens * routing.top_k && x.dim(1) == w.k);
  const Tensor y = ctx.arena.take(DType::kF32, {x.dim(0), w.n});
  ctx.device.expert_linear(x, ExpertRows::kBySlot, experts, routing, Epilogue::kStore, y);
  return y;
}

void expert_combine(Ctx& ctx, const Tensor& y, const Routing& routing, const Tensor& residual) {
  ERNE_CHECK(y.dim(0) == routing.num_tokens * routing.top_k &&
             residual.dim(0) == routing.num_tokens);
  ERNE_CHECK(y.dim(1) == residual.dim(1) && residual.dtype == DType::kF32 &&
             y.dtype == DType::kF32);
  ctx.device.expert_combine(y, routing, residual);
}

}  // namespace erne::ops
