// Which experts a token goes to, and the tokens of each expert: decided and listed on the device,
// so that the host never waits for it.
#pragma once

#include <cstdint>

#include "gpu/rt/runtime.h"

namespace erne::gpu {

inline constexpr int64_t kMostExperts = 1024;

struct RouteCall {
  const void* h = nullptr;  ///< [tokens, width], bf16 or f32
  bool h_bf16 = false;
  const float* weight = nullptr;  ///< [experts, width]
  const float* bias = nullptr;    ///< [experts]: moves the choice, not the weights
  int64_t tokens = 0;
  int64_t width = 0;
  int64_t experts = 0;
  int64_t top_k = 0;
  float norm_min = 0;
  // As Routing of device.h.
  int32_t* expert_ids = nullptr;
  float* weights = nullptr;
  int32_t* expert_start = nullptr;
  int32_t* slot_token = nullptr;
  int32_t* slot_of = nullptr;
};
/// experts <= kMostExperts. The slots of an expert are in the order of their tokens.
void run_route(Stream stream, const RouteCall& call);

}  // namespace erne::gpu
