// Tier 0 of route.h: softmax router of spec text.md 3.6 in f32, a block a token; then a stable sort
// by expert, a block an expert.
#include "gpu/kernels/route.h"
#include "gpu/rt/gpu.h"

namespace erne::gpu {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / GPU_WARP;

// Orders like the float, NaN below everything.
GPU_DEVICE uint32_t order_key(float value) {
  const auto bits = std::bit_cast<uint32_t>(value + 0.0F);  // -0 equals 0
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return 0;
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}

// The larger key, then the lower expert, is the larger number.
GPU_DEVICE uint64_t candidate(float value, int expert) {
  return uint64_t{order_key(value)} << 32 | (0xFFFFFFFFU - static_cast<uint32_t>(expert));
}
GPU_DEVICE int expert_of(uint64_t best) {
  return static_cast<int>(0xFFFFFFFFU - static_cast<uint32_t>(best));
}

template <typename H>
GPU_DEVICE void score_experts(const RouteCall& call, float* scores) {
  const H* h = static_cast<const H*>(call.h) + block_x() * call.width;
  for (int64_t e = warp_index(); e < call.experts; e += kWarps) {
    const float* w = call.weight + e * call.width;
    float sum = 0;
    for (int64_t i = lane_index(); i < call.width; i += GPU_WARP)
      sum = gpu_fma(load_number(h + i), w[i], sum);
    sum = warp_sum(sum);
    if (lane_index() == 0) scores[e] = sum;
  }
}

// Scores to probabilities; sums in the order of experts, in every thread.
GPU_DEVICE void softmax(float* scores, int64_t experts) {
  float most = scores[0];
  for (int64_t e = 1; e < experts; ++e) most = scores[e] > most ? scores[e] : most;
  block_sync();
  for (int64_t e = thread_index(); e < experts; e += kThreads)
    scores[e] = gpu_exp(scores[e] - most);
  block_sync();
  float sum = 0;
  for (int64_t e = 0; e < experts; ++e) sum += scores[e];
  block_sync();
  for (int64_t e = thread_index(); e < experts; e += kThreads) scores[e] /= sum;
  block_sync();
}

// One warp: top_k times the best expert that was not chosen before, all of them below the last one.
GPU_DEVICE void choose(const RouteCall& call, const float* scores) {
  int32_t* ids = call.expert_ids + block_x() * call.top_k;
  float* weights = call.weights + block_x() * call.top_k;
  uint64_t last = ~uint64_t{0};
  float chosen = 0;
  for (int64_t j = 0; j < call.top_k; ++j) {
    uint64_t best = 0;
    for (auto e = static_cast<int>(lane_index()); e < call.experts; e += GPU_WARP) {
      const uint64_t mine = candidate(scores[e] + call.bias[e], e);
      if (mine < last && mine > best) best = mine;
    }
    last = warp_max(best);
    const int expert = expert_of(last);
    chosen += scores[expert];
    if (lane_index() == 0) ids[j] = expert;
  }
  const float divisor = chosen > call.norm_min ? chosen : call.norm_min;
  if (lane_index() != 0) return;
  for (int64_t j = 0; j < call.top_k; ++j) weights[j] = scores[ids[j]] / divisor;
}

template <typename H>
GPU_KERNEL choose_kernel(RouteCall call) {
  GPU_SHARED float scores[kMostExperts];
  score_experts<H>(call, scores);
  block_sync();
  softmax(scores, call.experts);
  if (warp_index() == 0) choose(call, scores);
}

// The slots of expert block_x(): they begin behind those of the experts before it.
GPU_KERNEL group_kernel(RouteCall call) {
  GPU_SHARED int32_t counts[kWarps];
  const auto expert = static_cast<int32_t>(block_x());
  const int64_t slots = call.tokens * call.top_k;
  int32_t before = 0;
  for (int64_t i = thread_index(); i < slots; i += kThreads)
    before += call.expert_ids[i] < expert ? 1 : 0;
#pragma unroll
  for (int mask = GPU_WARP / 2; mask > 0; mask /= 2) before += warp_xor(before, mask);
  if (lane_index() == 0) counts[warp_index()] = before;
  block_sync();
  int32_t next = 0;
  for (int w = 0; w < kWarps; ++w) next += counts[w];
  if (thread_index() == 0) {
    call.expert_start[expert] = next;
    if (expert == 0) call.expert_start[call.experts] = static_cast<int32_t>(slots);
  }
  for (int64_t first = 0; first < slots; first += kThreads) {
    const int64_t i = first + thread_index();
    const bool mine = i < slots && call.expert_ids[i] == expert;
    const WarpRank rank = warp_rank(mine);
    block_sync();  // counts has been read
    if (lane_index() == 0) counts[warp_index()] = rank.total;
    block_sync();
    int32_t slot = next + rank.below;
    for (int w = 0; w < kWarps; ++w) {
      slot += w < warp_index() ? counts[w] : 0;
      next += counts[w];
    }
    if (mine) {
      call.slot_of[i] = slot;
      call.slot_token[slot] = static_cast<int32_t>(i / call.top_k);
    }
  }
}

}  // namespace

void run_route(Stream stream, const RouteCall& call) {
  const Grid tokens{call.tokens, 1, 1};
  if (call.h_bf16) {
    launch(stream, choose_kernel<bf16>, tokens, kThreads, call);
  } else {
    launch(stream, choose_kernel<float>, tokens, kThreads, call);
  }
  launch(stream, group_kernel, Grid{call.experts, 1, 1}, kThreads, call);
}

}  // namespace erne::gpu
