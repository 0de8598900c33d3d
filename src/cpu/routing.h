// The router's choice after its logits (text.md 3.6), and the grouping of tokens by expert.
#pragma once

#include <cstdint>

#include "device/device.h"

namespace erne::cpu {

/// Softmax of logits[E] in place, then the top_k experts by probability + bias into ids and their
/// normalised probabilities into weights.
void choose_experts(float* logits, int64_t num_experts, const RouterArgs& args, int32_t* ids,
                    float* weights);

/// Fills expert_start, slot_token and slot_of from expert_ids: slots by expert, then by token.
void group_by_expert(Routing& routing);

}  // namespace erne::cpu
