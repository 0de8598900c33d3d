#include "quant/fp8.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "base/error.h"
#include "quant/hadamard.h"

namespace erne {
namespace {

constexpr int64_t kBlock = 128;
constexpr float kLargest = 448.0F;
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// NaN counts as more than everything: bits order like magnitudes.
float absmax(const float* x, int64_t n) {
  int32_t largest = 0;
  for (int64_t i = 0; i < n; ++i) {
    largest = std::max(largest, std::bit_cast<int32_t>(x[i]) & 0x7FFFFFFF);
  }
  return std::bit_cast<float>(largest);
}

float larger(float a, float b) {
  return std::bit_cast<float>(std::max(std::bit_cast<int32_t>(a), std::bit_cast<int32_t>(b)));
}

bool usable(float amax) { return amax >= 0x1p-100F && std::isfinite(amax); }

void encode_divided(const float* x, int64_t n, float scale, int8_t* codes) {
  for (int64_t i = 0; i < n; ++i) codes[i] = static_cast<int8_t>(fp8_encode(x[i] / scale));
}

void encode_multiplied(const float* x, int64_t n, float factor, int8_t* codes) {
  for (int64_t i = 0; i < n; ++i) codes[i] = static_cast<int8_t>(fp8_encode(x[i] * factor));
}

// A scale for absmax, or the codes 0 and the scale that stand for nothing (0) or NaN.
float encode_row(const float* x, int64_t n, float amax, int8_t* codes) {
  if (!usable(amax)) {
    std::fill_n(codes, n, int8_t{0});
    return amax < 1 ? 1.0F : kNaN;
  }
  const float scale = amax / kLargest;
  encode_divided(x, n, scale, codes);
  return scale;
}

class Fp8Rows : public CodeRows {
 public:
  Fp8Rows(const MatrixView& weights, int32_t group, int32_t rotation)
      : CodeRows({CodeType::kFp8, group, false, DType::kF32, rotation}, weights.rows, weights.cols),
        weights_(weights),
        rotation_(rotation) {}

 protected:
  // The row's values, rotated.
  std::unique_ptr<float[]> values(int64_t row) const {
    auto x = std::make_unique_for_overwrite<float[]>(static_cast<size_t>(cols()));
    read_row_f32(weights_, row, x.get());
    if (rotation_ > 1) hadamard(x.get(), cols(), rotation_);
    return x;
  }
  int32_t rotation() const { return rotation_; }

 private:
  MatrixView weights_;
  int32_t rotation_;
};

class RowScaled final : public Fp8Rows {
 public:
  explicit RowScaled(const MatrixView& weights) : Fp8Rows(weights, 0, 1) {}

  void read(int64_t row, int8_t* codes, float* scales, float* /*mins*/) const override {
    const auto x = values(row);
    scales[0] = encode_row(x.get(), cols(), absmax(x.get(), cols()), codes);
  }
};

class TensorScaled final : public Fp8Rows {
 public:
  TensorScaled(const MatrixView& weights, int32_t rotation) : Fp8Rows(weights, 0, rotation) {
    for (int64_t n = 0; n < rows(); ++n) amax_ = larger(amax_, absmax(values(n).get(), cols()));
  }

  void read(int64_t row, int8_t* codes, float* scales, float* /*mins*/) const override {
    const auto x = values(row);
    scales[0] = encode_row(x.get(), cols(), amax_, codes) / static_cast<float>(rotation());
  }

 private:
  float amax_ = 0;
};

// factor = 448 / absmax multiplies and 1 / factor is stored, as the reference does.
class BlockScaled final : public Fp8Rows {
 public:
  explicit BlockScaled(const MatrixView& weights)
      : Fp8Rows(weights, kBlock, 1), groups_(format().groups(weights.cols)) {
    amax_.resize(static_cast<size_t>((rows() + kBlock - 1) / kBlock * groups_));
    for (int64_t n = 0; n < rows(); ++n) {
      const auto x = values(n);
      float* amax = amax_.data() + n / kBlock * groups_;
      for (int64_t g = 0; g < groups_; ++g)
        amax[g] = larger(amax[g], absmax(x.get() + g * kBlock, width(g)));
    }
  }

  void read(int64_t row, int8_t* codes, float* scales, float* /*mins*/) const override {
    const auto x = values(row);
    const float* amax = amax_.data() + row / kBlock * groups_;
    for (int64_t g = 0; g < groups_; ++g) {
      if (!usable(amax[g])) {
        scales[g] = encode_row(x.get() + g * kBlock, width(g), amax[g], codes + g * kBlock);
        continue;
      }
      const float factor = kLargest / amax[g];
      encode_multiplied(x.get() + g * kBlock, width(g), factor, codes + g * kBlock);
      scales[g] = 1.0F / factor;
    }
  }

 private:
  int64_t width(int64_t group) const { return std::min(kBlock, cols() - group * kBlock); }

  int64_t groups_;
  std::vector<float> amax_;
};

}  // namespace

std::unique_ptr<CodeRows> fp8_rows(const MatrixView& weights, Fp8Scaling scaling) {
  switch (scaling) {
    case Fp8Scaling::kBlock:
      return std::make_unique<BlockScaled>(weights);
    case Fp8Scaling::kRow:
      return std::make_unique<RowScaled>(weights);
    case Fp8Scaling::kTensor:
      return std::make_unique<TensorScaled>(weights, 1);
  }
  ERNE_CHECK(false, "scaling {}", static_cast<int>(scaling));
}

std::unique_ptr<CodeRows> fp8_rotated_rows(const MatrixView& weights, int32_t rotation) {
  check_rotation(weights.cols, rotation);
  return std::make_unique<TensorScaled>(weights, rotation);
}

void fp8_activation(const float* x, int64_t cols, uint8_t* codes, float* scales) {
  for (int64_t k = 0, g = 0; k < cols; k += kBlock, ++g) {
    const int64_t n = std::min(kBlock, cols - k);
    scales[g] = std::max(absmax(x + k, n), 1e-4F) / kLargest;
    for (int64_t i = 0; i < n; ++i) codes[k + i] = fp8_encode(x[k + i] / scales[g]);
  }
}

}  // namespace erne
