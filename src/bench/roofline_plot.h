// The roofline as a picture: what the machine allows at each operational intensity, and where the
// parts of a model's step lie (Williams, Waterman & Patterson, "Roofline", 2009).
#pragma once

#include <span>
#include <string>

#include "bench/roofline.h"
#include "bench/step_profile.h"

namespace erne::bench {

/// An SVG document. Both axes are logarithmic: FLOP a byte, and GFLOP/s with all threads. `model`
/// is the name in the title; no steps: the machine alone.
std::string roofline_svg(const Roofline& roofline, std::span<const StepProfile> steps,
                         const std::string& model);

}  // namespace erne::bench
