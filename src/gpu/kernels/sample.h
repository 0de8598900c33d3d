// Draws of next tokens from rows of logits.
#pragma once

#include <cstdint>

#include "device/draw.h"
#include "gpu/rt/runtime.h"

namespace erne::gpu {

/// Sums of blocks of 64 weights stand in shared memory.
inline constexpr int64_t kMostDrawnVocab = 262144;

struct SampleCall {
  float* logits = nullptr;  ///< [M, vocab]; rows with edits are changed
  int64_t vocab = 0;        ///< up to kMostDrawnVocab
  int64_t count = 0;
  const Draw* draws = nullptr;  ///< [count], each of another row
  const LogitEdit* edits = nullptr;
  int32_t* ids = nullptr;  ///< [count]; -1: no distribution
};
void run_sample(Stream stream, const SampleCall& call);

}  // namespace erne::gpu
