#include "model/quantized_rows.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.h"
#include "model/quantized_tensors.h"

namespace erne {
namespace {

using Method = WeightScheme::Method;

float to_bf16_float(float x) { return to_f32(to_bf16(x)); }

float round_half_away(float x) { return std::copysign(std::floor(std::fabs(x) + 0.5F), x); }

// wint8 and wint4 of spec quantization.md 3.1: the scale is rounded before it divides.
class IntegerRows final : public CodeRows {
 public:
  IntegerRows(CodeFormat format, const MatrixView& numbers)
      : CodeRows(format, numbers.rows, numbers.cols), numbers_(numbers) {}

  void read(int64_t row, int8_t* codes, float* scales, float* mins) const override {
    std::vector<float> values(static_cast<size_t>(cols()));
    read_row_f32(numbers_, row, values.data());
    const int64_t group = format().group == 0 ? cols() : format().group;
    const int64_t groups = format().groups(cols());
    for (int64_t g = 0; g < groups; ++g) {
      const float* x = values.data() + g * group;
      const int64_t count = std::min(group, cols() - g * group);
      if (format().has_min) {
        asymmetric(x, count, codes + g * group, scales[g], mins[g]);
      } else {
        symmetric(x, count, codes + g * group, scales[g]);
      }
    }
  }

 private:
  void symmetric(const float* x, int64_t count, int8_t* codes, float& scale) const {
    const float levels = format().type == CodeType::kInt8 ? 127.0F : 7.0F;
    float largest = 0;
    for (int64_t i = 0; i < count; ++i) largest = std::max(largest, std::fabs(x[i]));
    scale = to_bf16_float(largest / levels);
    if (scale == 0) scale = 1;
    for (int64_t i = 0; i < count; ++i) {
      codes[i] = static_cast<int8_t>(std::clamp(round_half_away(x[i] / scale), -levels, levels));
    }
  }

  void asymmetric(const float* x, int64_t count, int8_t* codes, float& scale, float& min) const {
    const float least = format().type == CodeType::kInt8 ? -128.0F : 0.0F;
    const float levels = format().type == CodeType::kInt8 ? 255.0F : 15.0F;
    const auto [low, high] = std::minmax_element(x, x + count);
    scale = to_bf16_float((*high - *low) / levels);
    if (scale == 0) scale = 1;
    min = to_bf16_float(*low - least * scale);
    for (int64_t i = 0; i < count; ++i) {
      const float code = round_half_away((x[i] - min) / scale);
      codes[i] = static_cast<int8_t>(std::clamp(code, least, least + levels));
    }
  }

  MatrixView numbers_;
};

// Rows of a matrix that belongs to them.
class HeldRows final : public CodeRows {
 public:
  HeldRows(std::vector<float> numbers, const MatrixView& view, const WeightScheme& scheme)
      : HeldRows(std::move(numbers), quantize_rows(view, scheme)) {}

  void read(int64_t row, int8_t* codes, float* scales, float* mins) const override {
    rows_->read(row, codes, scales, mins);
  }

 private:
  HeldRows(std::vector<float> numbers, std::shared_ptr<const CodeRows> rows)
      : CodeRows(rows->format(), rows->rows(), rows->cols()),
        numbers_(std::move(numbers)),
        rows_(std::move(rows)) {}

  std::vector<float> numbers_;
  std::shared_ptr<const CodeRows> rows_;
};

}  // namespace

std::shared_ptr<const CodeRows> quantize_rows(const MatrixView& numbers,
                                              const WeightScheme& scheme) {
  switch (scheme.method) {
    case Method::kInt8:
    case Method::kInt4: {
      const CodeType type = scheme.method == Method::kInt8 ? CodeType::kInt8 : CodeType::kInt4;
      return std::make_shared<IntegerRows>(
          CodeFormat{type, scheme.group, scheme.has_min, DType::kBF16}, numbers);
    }
    case Method::kFp8Block:
    case Method::kFp8Channel:
    case Method::kFp8Tensor:
    case Method::kCcq25:
    case Method::kCcq2:
      break;
  }
  fail(Code::kUnsupported, "scheme {} is not available yet", scheme.name());
}

std::shared_ptr<const CodeRows> quantize_rows(std::shared_ptr<const CodeRows> codes,
                                              const WeightScheme& scheme) {
  const int64_t rows = codes->rows();
  const int64_t cols = codes->cols();
  std::vector<float> numbers(static_cast<size_t>(rows * cols));
  for (int64_t r = 0; r < rows; ++r) dequantize_row(*codes, r, numbers.data() + r * cols);
  const MatrixView view{numbers.data(), DType::kF32, rows, cols, cols, 1};
  return std::make_shared<HeldRows>(std::move(numbers), view, scheme);
}

}  // namespace erne
