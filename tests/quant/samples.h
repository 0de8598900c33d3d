// Matrices for the tests of quantised formats.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "base/rng.h"
#include "tensor/code_rows.h"
#include "tensor/tensor.h"

namespace erne::testing_support {

/// n Gaussian values of standard deviation sigma; the same for the same seed.
inline std::vector<float> gaussian(int64_t n, uint64_t seed, float sigma = 0.02F) {
  std::vector<float> values(static_cast<size_t>(n));
  for (size_t i = 0; i < values.size(); ++i) {
    const double u = philox_uniform(seed, 0, i) + 1e-12;
    const double angle = 2 * 3.141592653589793 * philox_uniform(seed, 1, i);
    values[i] = sigma * static_cast<float>(std::sqrt(-2 * std::log(u)) * std::cos(angle));
  }
  return values;
}

inline MatrixView view(const std::vector<float>& values, int64_t rows, int64_t cols) {
  return {values.data(), DType::kF32, rows, cols, cols, 1};
}

struct Codes {
  std::vector<int8_t> codes;  ///< [rows * cols]
  std::vector<float> scales;  ///< [rows * groups]
  std::vector<float> mins;    ///< the same, or empty
};

inline Codes read_all(const CodeRows& rows) {
  const int64_t groups = rows.format().groups(rows.cols());
  Codes all{
      std::vector<int8_t>(static_cast<size_t>(rows.rows() * rows.cols())),
      std::vector<float>(static_cast<size_t>(rows.rows() * groups)),
      std::vector<float>(static_cast<size_t>(rows.format().has_min ? rows.rows() * groups : 0))};
  for (int64_t n = 0; n < rows.rows(); ++n) {
    rows.read(n, all.codes.data() + n * rows.cols(), all.scales.data() + n * groups,
              rows.format().has_min ? all.mins.data() + n * groups : nullptr);
  }
  return all;
}

/// scale * code (+ min) of integer codes; fp8 codes through `decode`, a table of 256 values.
inline std::vector<float> values_of(const CodeRows& rows, const float* decode = nullptr) {
  const Codes all = read_all(rows);
  const int64_t groups = rows.format().groups(rows.cols());
  const int64_t step = rows.format().group == 0 ? rows.cols() : rows.format().group;
  std::vector<float> values(all.codes.size());
  for (int64_t n = 0; n < rows.rows(); ++n) {
    for (int64_t k = 0; k < rows.cols(); ++k) {
      const auto i = static_cast<size_t>(n * rows.cols() + k);
      const auto g = static_cast<size_t>(n * groups + k / step);
      const float code = decode != nullptr ? decode[static_cast<uint8_t>(all.codes[i])]
                                           : static_cast<float>(all.codes[i]);
      values[i] = all.scales[g] * code + (all.mins.empty() ? 0 : all.mins[g]);
    }
  }
  return values;
}

inline double squared_error(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
  return sum;
}

/// Signal to noise in dB, as reference_quant.py's snr.
inline double snr(const std::vector<float>& signal, const std::vector<float>& approximation) {
  return 10 * std::log10(squared_error(signal, std::vector<float>(signal.size())) /
                         squared_error(signal, approximation));
}

}  // namespace erne::testing_support
