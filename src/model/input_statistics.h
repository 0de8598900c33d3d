// What the inputs of a linear look like over the calibration tokens: their second moments, which
// GPTQ solves with and every output error is measured by, and some of them as they are, for AWQ.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "device/device.h"

namespace erne {

class InputStatistics {
 public:
  /// expected_rows: how many will be added, so that the samples, at most max_samples, can be spread
  /// evenly over them. The device computes, in host memory; it must outlive this.
  InputStatistics(Device& device, int64_t inputs, int64_t expected_rows, int64_t max_samples);

  /// x [rows, inputs], f32 or bf16.
  void add(const Tensor& x);

  int64_t inputs() const { return inputs_; }
  int64_t rows() const { return rows_; }
  /// [samples, inputs]
  std::span<const float> samples() const { return samples_; }
  /// H = sum of x x^T with row and column k divided by scale[k] (none: 1), in double.
  std::vector<double> hessian(std::span<const float> scale) const;
  /// d^T H d of each row of d [rows, inputs]: the summed squared change of the output when the
  /// weights change by d. No add() afterwards.
  std::vector<double> output_errors(std::span<const float> d);

 private:
  void accumulate(const std::vector<float>& transposed, int64_t count);

  Device& device_;
  int64_t inputs_;
  int64_t expected_rows_;
  int64_t max_samples_;
  int64_t rows_ = 0;
  std::vector<float> samples_;
  std::vector<float> sum_;        // [inputs, inputs] sum of x x^T
  std::optional<Linear> packed_;  // the same as the device wants it
};

}  // namespace erne
