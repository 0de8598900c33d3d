// GPTQ (Frantar et al., arXiv 2210.17323; spec quantization.md 10.2): codes chosen one input after
// another, each error spread over the inputs that follow, so that the outputs on the calibration
// data change least.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "quant/round_to_nearest.h"

namespace erne {

class ThreadPool;

struct GptqOptions {
  double damping = 0.01;  ///< of the mean diagonal, added to the diagonal
  bool by_activity =
      false;  ///< inputs with a large diagonal first; group scales from plain weights
};

/// What the inputs say, factored once for all linears that share them. Immutable: rows may be
/// solved by several threads.
class GptqSolver {
 public:
  /// hessian: [inputs, inputs] row-major, symmetric, the sum or mean of x x^T over the calibration
  /// tokens. O(inputs^3), split over the pool where there is one; the same bits for any number of
  /// threads. Throws Error{kInvalidArgument} for a wrong size and for a matrix that is not finite
  /// or not positive definite even when damped.
  GptqSolver(std::vector<double> hessian, int64_t inputs, const GptqOptions& options,
             ThreadPool* pool = nullptr);

  /// The weights w[rows, inputs] of `rows` outputs to codes [rows, inputs], scales and mins [rows,
  /// groups], as round_row would store them; a row's codes do not depend on the others. Inputs that
  /// were never active become zero. Many rows at once share the reading of the factor. Throws
  /// Error{kInvalidArgument} for fp8.
  void solve(const float* w, int64_t rows, const Rounding& rounding, int8_t* codes, float* scales,
             float* mins) const;

 private:
  struct Row;
  void prepare(std::vector<double>& hessian);
  void solve_block(int64_t begin, int64_t end, const Rounding& rounding, Row& row) const;

  int64_t inputs_;
  GptqOptions options_;
  std::vector<int64_t> order_;  // inputs in the order in which they are solved
  std::vector<uint8_t> dead_;   // by input
  std::vector<float> inverse_;  // U, upper triangular in that order: H^-1 = U^T U
};

/// d^T H d of one output: what its error d[inputs] costs on the calibration data.
double hessian_error(std::span<const double> hessian, std::span<const float> error);

}  // namespace erne
