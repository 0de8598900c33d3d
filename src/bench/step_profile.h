// Where the time of a step goes: each part of the network with its rate, as a share of what the
// machine's roofline allows at that intensity.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "bench/roofline.h"
#include "bench/timed_device.h"
#include "model/text_model.h"

namespace erne::bench {

/// Sequences of equal shape: each brings `tokens` tokens, which end at position `context`.
struct StepShape {
  std::string name;
  int64_t sequences = 1;
  int64_t tokens = 1;
  int64_t context = 512;
};

/// Decode of 1 and of 16 sequences with 512 positions, and a prompt of 512 tokens; less where the
/// model's context is shorter.
std::vector<StepShape> usual_shapes(const TextConfig& config);

/// For a GPU: decode of 1, 8, 16, 64 and 100 sequences with 1,024 positions, and prompts of 512 and
/// 4,096 tokens; less where the model's context is shorter.
std::vector<StepShape> card_shapes(const TextConfig& config);

/// All calls of one part of the step.
struct OpRate {
  Op op = Op::kEmbed;
  int64_t calls = 0;
  double seconds = 0;
  double bytes = 0;
  double flops = 0;
  double limit_gflops = 0;  ///< what bandwidth and peak allow at this intensity; 0 without FLOPs

  double intensity() const { return flops / bytes; }  ///< FLOP a byte
  double gflops() const { return flops / seconds / 1e9; }
  double gb_per_s() const { return bytes / seconds / 1e9; }
};

/// Adds the calls up, in the order of Op; parts that were not called are left out.
std::vector<OpRate> add_up(std::span<const OpCall> calls);

struct StepProfile {
  StepShape shape;
  double seconds = 0;       ///< of the operations below, added up
  std::vector<OpRate> ops;  ///< those that were called, in the order of Op
};

/// Runs the step `runs` times after a warm-up. Of each call the fastest run counts, as the
/// machine's limits are the best of several runs too: what else the machine does is left out.
/// `model` was loaded on `device`.
StepProfile profile_step(const TextModel& model, Device& device, const StepShape& shape,
                         const RooflinePoint& limits, int runs);

std::string to_table(std::span<const StepProfile> steps);
/// An array, one object a step, as text.
std::string to_json(std::span<const StepProfile> steps);

}  // namespace erne::bench
