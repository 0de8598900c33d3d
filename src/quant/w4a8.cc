#include "quant/w4a8.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "quant/hadamard.h"

namespace erne {
namespace {

// Halves away from zero, clipped to +-limit; 0 for NaN.
int round_away(float x, int limit) {
  const auto bound = static_cast<float>(limit);
  const float magnitude = std::floor(std::fabs(x) + 0.5F);
  const int q = magnitude < bound ? static_cast<int>(magnitude) : (magnitude >= bound ? limit : 0);
  return std::signbit(x) ? -q : q;
}

class W4a8Rows final : public CodeRows {
 public:
  W4a8Rows(const MatrixView& weights, int32_t rotation)
      : CodeRows({CodeType::kInt4, 0, false, DType::kF32, rotation, Inputs::kInt8Row}, weights.rows,
                 weights.cols),
        weights_(weights),
        rotation_(rotation) {}

  // Codes of the row and its absmax (0 for a zero row, NaN for a broken one).
  float codes_of(int64_t row, int8_t* codes) const {
    const auto w = std::make_unique_for_overwrite<float[]>(static_cast<size_t>(cols()));
    read_row_f32(weights_, row, w.get());
    if (rotation_ > 1) {
      hadamard(w.get(), cols(), rotation_);
      const float root = root_of_rotation();
      for (int64_t k = 0; k < cols(); ++k) w[k] /= root;
    }
    float amax = 0;
    bool broken = false;
    for (int64_t k = 0; k < cols(); ++k) {
      broken |= !std::isfinite(w[k]);
      amax = std::max(amax, std::fabs(w[k]));
    }
    if (broken || amax == 0) {
      std::fill_n(codes, cols(), int8_t{0});
      return broken ? std::numeric_limits<float>::quiet_NaN() : 0;
    }
    for (int64_t k = 0; k < cols(); ++k) {
      codes[k] = static_cast<int8_t>(round_away(w[k] / amax * 7, 7));
    }
    return amax;
  }

  float root_of_rotation() const { return std::sqrt(static_cast<float>(rotation_)); }

  void read(int64_t row, int8_t* codes, float* scales, float* /*mins*/) const override {
    const float amax = codes_of(row, codes);
    scales[0] = amax == 0 ? 1.0F : amax / 7 / root_of_rotation();
  }

 private:
  MatrixView weights_;
  int32_t rotation_;
};

}  // namespace

std::unique_ptr<CodeRows> w4a8_rows(const MatrixView& weights, int32_t rotation) {
  check_rotation(weights.cols, rotation);
  return std::make_unique<W4a8Rows>(weights, rotation);
}

void w4a8_activation(const float* x, int64_t n, float amax, int8_t* codes) {
  const float factor = 127.0F / amax;
  for (int64_t i = 0; i < n; ++i) codes[i] = static_cast<int8_t>(round_away(x[i] * factor, 127));
}

std::vector<float> w4a8_linear(const float* x, int64_t tokens, const MatrixView& weights,
                               float amax, int32_t rotation) {
  check_rotation(weights.cols, rotation);
  const int64_t cols = weights.cols;
  const W4a8Rows rows(weights, rotation);
  std::vector<float> input(x, x + tokens * cols);
  if (rotation > 1) hadamard(input.data(), tokens * cols, rotation);
  std::vector<int8_t> input_codes(input.size());
  w4a8_activation(input.data(), tokens * cols, amax, input_codes.data());
  std::vector<int8_t> codes(static_cast<size_t>(cols));
  std::vector<float> y(static_cast<size_t>(tokens * rows.rows()));
  for (int64_t n = 0; n < rows.rows(); ++n) {
    const float scale = rows.codes_of(n, codes.data()) * amax / (127.0F * 112.0F);
    for (int64_t t = 0; t < tokens; ++t) {
      int32_t sum = 0;
      for (int64_t k = 0; k < cols; ++k) {
        sum += int32_t{input_codes[static_cast<size_t>(t * cols + k)]} * 16 *
               int32_t{codes[static_cast<size_t>(k)]};
      }
      y[static_cast<size_t>(t * rows.rows() + n)] =
          static_cast<float>(sum) * scale / rows.root_of_rotation();
    }
  }
  return y;
}

std::vector<float> row_scaled_product(const float* x, int64_t tokens, const CodeRows& rows,
                                      float amax) {
  const int64_t cols = rows.cols();
  std::vector<float> y(static_cast<size_t>(tokens * rows.rows()));
  std::vector<float> input(static_cast<size_t>(cols));
  std::vector<int8_t> input_codes(input.size());
  std::vector<int8_t> codes(input.size());
  for (int64_t t = 0; t < tokens; ++t) {
    std::copy_n(x + t * cols, cols, input.begin());
    if (rows.format().rotation > 1) hadamard(input.data(), cols, rows.format().rotation);
    float range = amax;
    for (const float value : input) range = amax > 0 ? amax : std::max(range, std::fabs(value));
    w4a8_activation(input.data(), cols, range, input_codes.data());
    for (int64_t n = 0; n < rows.rows(); ++n) {
      float scale = 0;
      rows.read(n, codes.data(), &scale, nullptr);
      int32_t sum = 0;
      for (size_t k = 0; k < input.size(); ++k) sum += int32_t{input_codes[k]} * int32_t{codes[k]};
      y[static_cast<size_t>(t * rows.rows() + n)] =
          static_cast<float>(sum) * (scale * (range / 127.0F));
    }
  }
  return y;
}

}  // namespace erne
