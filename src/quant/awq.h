// AWQ's search for input scales (Lin et al., arXiv 2306.00978; spec quantization.md 10.3): inputs
// that are large get finer codes by multiplying their weights and dividing the inputs by s, which
// is folded into the layer before.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "quant/round_to_nearest.h"
#include "tensor/tensor.h"

namespace erne {

struct AwqScales {
  std::vector<float> s;  ///< [inputs], positive; quantise w * s, feed x / s
  double error = 0;      ///< mean squared error of the outputs on the samples
  double plain = 0;      ///< the same without scales (s = 1), never smaller
};

/// Tries s = x^r / (w^(1-r) + 1e-4) and s = x^r for r = 0, 1/20, … 19/20, normalised by
/// sqrt(max min); x is an input's mean magnitude over the samples and w its weights' mean share of
/// their group's largest. weights [outputs, inputs]; samples [tokens, inputs]. Throws
/// Error{kInvalidArgument} for sizes that do not fit.
AwqScales awq_scales(const MatrixView& weights, std::span<const float> samples,
                     const Rounding& rounding);

}  // namespace erne
