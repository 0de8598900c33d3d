#include "cpu/routing.h"

#include <algorithm>
#include <cmath>

namespace erne::cpu {

void choose_experts(float* logits, int64_t num_experts, const RouterArgs& args, int32_t* ids,
                    float* weights) {
  const float max = *std::max_element(logits, logits + num_experts);
  float sum = 0;
  for (int64_t e = 0; e < num_experts; ++e) {
    logits[e] = std::exp(logits[e] - max);
    sum += logits[e];
  }
  for (int64_t e = 0; e < num_experts; ++e) logits[e] /= sum;

  // Insertion into the best so far; a later equal value stays behind, so ties go to the lower id.
  const auto value = [&](int64_t e) { return logits[e] + args.bias[e]; };
  int64_t count = 0;
  for (int64_t e = 0; e < num_experts; ++e) {
    int64_t place = count;
    while (place > 0 && value(e) > value(ids[place - 1])) --place;
    if (place >= args.top_k) continue;
    count = std::min(count + 1, args.top_k);
    for (int64_t i = count - 1; i > place; --i) ids[i] = ids[i - 1];
    ids[place] = static_cast<int32_t>(e);
  }
  float chosen = 0;
  for (int64_t j = 0; j < args.top_k; ++j) {
    weights[j] = logits[ids[j]];
    chosen += weights[j];
  }
  for (int64_t j = 0; j < args.top_k; ++j) weights[j] /= std::max(chosen, args.norm_min);
}

void group_by_expert(Routing& r) {
  const int64_t slots = r.num_tokens * r.top_k;
  std::fill_n(r.expert_start, r.num_experts + 1, 0);
  for (int64_t i = 0; i < slots; ++i) ++r.expert_start[r.expert_ids[i] + 1];
  for (int64_t e = 0; e < r.num_experts; ++e) r.expert_start[e + 1] += r.expert_start[e];
  // expert_start[e] moves to the expert's end while its slots fill, then everything shifts back by
  // one.
  for (int64_t i = 0; i < slots; ++i) {
    const int32_t slot = r.expert_start[r.expert_ids[i]]++;
    r.slot_of[i] = slot;
    r.slot_token[slot] = static_cast<int32_t>(i / r.top_k);
  }
  for (int64_t e = r.num_experts; e > 0; --e) r.expert_start[e] = r.expert_start[e - 1];
  r.expert_start[0] = 0;
}

}  // namespace erne::cpu
