#include "model/quantized_rows.h"

#include <vector>

#include "base/error.h"
#include "model/quantized_tensors.h"
#include "quant/fp8.h"
#include "quant/round_to_nearest.h"

namespace erne {
namespace {

using Method = WeightScheme::Method;

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

std::optional<Rounding> integer_rounding(const WeightScheme& scheme) {
  if (scheme.method != Method::kInt8 && scheme.method != Method::kInt4) return std::nullopt;
  return Rounding{scheme.method == Method::kInt8 ? CodeType::kInt8 : CodeType::kInt4, scheme.group,
                  scheme.has_min, scheme.search ? ScaleSearch::kMinError : ScaleSearch::kAbsMax};
}

CodeFormat scheme_format(const WeightScheme& scheme) {
  const std::optional<Rounding> rounding = integer_rounding(scheme);
  ERNE_CHECK(rounding, "{} has no integers", scheme.name());
  return {rounding->type, rounding->group, rounding->has_min, DType::kBF16};
}

std::shared_ptr<const CodeRows> quantize_rows(const MatrixView& numbers,
                                              const WeightScheme& scheme) {
  switch (scheme.method) {
    case Method::kFp8Block:
      return fp8_rows(numbers, Fp8Scaling::kBlock);
    case Method::kFp8Channel:
      return fp8_rows(numbers, Fp8Scaling::kRow);
    case Method::kFp8Tensor:
      return fp8_rows(numbers, Fp8Scaling::kTensor);
    case Method::kInt8:
    case Method::kInt4:
      break;
  }
  return round_to_nearest(numbers, *integer_rounding(scheme));
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
