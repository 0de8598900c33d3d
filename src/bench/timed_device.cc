#include "bench/timed_device.h"

#include <array>

namespace erne::bench {
namespace {

double number(int64_t value) { return static_cast<double>(value); }
double size(const Tensor& t) { return static_cast<double>(t.bytes()); }

}  // namespace

std::string_view op_name(Op op) {
  constexpr std::array<std::string_view, kNumOps> kNames = {
      "embed",   "norm+rope", "qkv",    "attention", "o",
      "gate_up", "down",      "router", "experts",   "lm_head"};
  return kNames.at(static_cast<size_t>(op));
}

void TimedDevice::note(Op op, Clock::time_point begin, double bytes, double flops) {
  inner_.synchronize();
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  calls_.push_back({op, seconds, bytes, flops});
  last_ = op;
}

void TimedDevice::embed(const Embedding& table, std::span<const int32_t> ids, const Tensor& x) {
  const auto begin = Clock::now();
  inner_.embed(table, ids, x);
  const double read = number(x.elements()) * static_cast<double>(dtype_bytes(table.view.dtype));
  note(Op::kEmbed, begin, read + size(x), 0);
}

// A square, a sum, and two factors an element.
void TimedDevice::rms_norm(const Tensor& x, std::span<const int32_t> rows, const float* w,
                           float eps, const Tensor& y) {
  const auto begin = Clock::now();
  inner_.rms_norm(x, rows, w, eps, y);
  const double read = (number(y.elements()) + number(y.dim(1))) * sizeof(float);
  note(Op::kNormRope, begin, read + size(y), 4 * number(y.elements()));
  picked_rows_ = !rows.empty();
}

Op TimedDevice::op_of(Epilogue epilogue) const {
  if (epilogue == Epilogue::kSiluMul) return Op::kGateUp;
  if (epilogue == Epilogue::kAdd) return last_ == Op::kAttention ? Op::kO : Op::kDown;
  return picked_rows_ ? Op::kLmHead : Op::kQkv;
}

void TimedDevice::linear(const Tensor& x, const Linear& w, Epilogue epilogue, const Tensor& y) {
  const auto begin = Clock::now();
  inner_.linear(x, w, epilogue, y);
  note(op_of(epilogue), begin, static_cast<double>(w.bytes()) + size(x) + size(y),
       2 * number(x.dim(0)) * number(w.n) * number(w.k));
}

// Four products and two sums a pair of q and k; v is only copied.
void TimedDevice::rope_store(const Tensor& qkv, const Batch& batch, const RopeArgs& args,
                             KvCache& cache) {
  const auto begin = Clock::now();
  inner_.rope_store(qkv, batch, args, cache);
  const double turned =
      number(batch.num_tokens()) * (args.num_heads + cache.spec.kv_heads) * cache.spec.head_dim;
  note(Op::kNormRope, begin, 2 * size(qkv), 3 * turned);
}

// A query at position p meets p + 1 keys and as many values; each sequence's are read once.
void TimedDevice::attention(const Tensor& qkv, const Batch& batch, const AttentionArgs& args,
                            const KvCache& cache, const Tensor& out) {
  const auto begin = Clock::now();
  inner_.attention(qkv, batch, args, cache, out);
  double pairs = 0;
  for (const int32_t position : batch.positions) pairs += position + 1;
  double context = 0;
  for (const int32_t length : batch.context_len) context += length;
  const double kv = context * 2 * cache.spec.kv_heads * cache.spec.head_dim *
                    static_cast<double>(dtype_bytes(cache.spec.dtype));
  note(Op::kAttention, begin, kv + 2 * size(out),  // q is as large as the result
       4 * pairs * args.num_heads * cache.spec.head_dim);
}

void TimedDevice::route(const Tensor& h, const RouterArgs& args, Routing& routing) {
  const auto begin = Clock::now();
  inner_.route(h, args, routing);
  note(Op::kRouter, begin, size(*args.weight) + size(h),
       2 * number(h.dim(0)) * number(args.weight->elements()));
}

void TimedDevice::expert_linear(const Tensor& x, ExpertRows rows, const Experts& all,
                                const Routing& routing, Epilogue epilogue, const Tensor& y) {
  const std::vector<Linear>& experts = all.linears;
  const Tensor start =
      inner_.to_host({routing.expert_start, DType::kI32, {routing.num_experts + 1}});
  double weights = 0;
  for (size_t e = 0; e < experts.size(); ++e) {
    const bool chosen = start.ptr<int32_t>()[e + 1] > start.ptr<int32_t>()[e];
    if (chosen) weights += static_cast<double>(experts[e].bytes());
  }
  const auto begin = Clock::now();
  inner_.expert_linear(x, rows, all, routing, epilogue, y);
  const double slots = number(routing.num_tokens * routing.top_k);
  note(Op::kExperts, begin, weights + size(x) + size(y),
       2 * slots * number(experts[0].n) * number(experts[0].k));
}

void TimedDevice::expert_combine(const Tensor& y, const Routing& routing, const Tensor& x) {
  const auto begin = Clock::now();
  inner_.expert_combine(y, routing, x);
  note(Op::kExperts, begin, size(y) + size(x), 2 * number(y.elements()));
}

}  // namespace erne::bench
