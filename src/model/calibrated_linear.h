// One linear of a model that is being calibrated: its weights to codes, and what that changes in
// its outputs (spec quantization.md 10).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "model/input_statistics.h"
#include "model/quantization.h"
#include "quant/gptq.h"
#include "quant/round_to_nearest.h"
#include "tensor/code_rows.h"
#include "tensor/tensor.h"

namespace erne {

class ThreadPool;

/// How well one linear came through.
struct OutputError {
  std::string method;  ///< "gptq", "awq+gptq", "rtn", …
  int64_t rows = 0;    ///< inputs that it was calibrated with
  /// Squared error of the outputs on those inputs as a share of the squared outputs, rounded to the
  /// nearest and as written. Both 0 without inputs.
  double rounded = 0;
  double written = 0;
};

struct CalibrationJob {
  MatrixView weights;  ///< as the checkpoint has them
  WeightScheme scheme;
  Rounding rounding;
  std::span<const float> input_scale;   ///< multiplies columns; none: 1
  std::span<const float> output_scale;  ///< divides rows; none: 1
  const GptqSolver* solver = nullptr;   ///< of the scaled inputs; null: rounded to the nearest
  InputStatistics* inputs = nullptr;    ///< of the unscaled inputs; null: there were none
};

struct CalibratedLinear {
  std::shared_ptr<const CodeRows> codes;  ///< of the scaled weights, held in memory
  OutputError output;                     ///< method is the caller's to say
  /// Error of the unscaled weights, as in TensorError.
  double snr_db = 0;
  double largest = 0;
  /// Those of the job.
  std::vector<float> input_scale, output_scale;
};

/// GPTQ keeps, row by row, what is better on the inputs: its codes or those of rounding. The same
/// bits for any number of threads.
CalibratedLinear calibrate_linear(const CalibrationJob& job, ThreadPool& pool);

}  // namespace erne
