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

class ThreadPool;

/// One of the linears that read the same inputs.
struct AwqLinear {
  MatrixView weights;              ///< [outputs, inputs]
  std::span<const float> samples;  ///< [tokens, inputs]; none: it has no say
  Rounding rounding;
  double weight = 1;  ///< of its squared error: calibration tokens that a sample stands for
};

struct AwqScales {
  std::vector<float> s;  ///< [inputs], positive; quantise w * s, feed x / s
  double error = 0;      ///< summed squared error of the outputs on the samples
  double plain = 0;      ///< the same without scales (s = 1), never smaller
};

/// Tries s = x^r / (w^(1-r) + 1e-4) and s = x^r for r = 0, 1/20, … 19/20, normalised by
/// sqrt(max min); x is an input's mean magnitude over the samples and w its weights' mean share of
/// their group's largest. The same bits for any number of threads. Throws Error{kInvalidArgument}
/// for sizes that do not fit and where no linear has samples.
AwqScales awq_scales(std::span<const AwqLinear> linears, ThreadPool& pool);

}  // namespace erne
