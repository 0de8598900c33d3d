#include "model/quantized_rows.h"

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "model/layout.h"
#include "model/quantized_tensors.h"
#include "model/row_views.h"
#include "quant/ccq.h"
#include "quant/fp8.h"
#include "quant/round_to_nearest.h"
#include "quant/w4a8.h"

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
  CcqConstants read_ccq(int64_t row, uint8_t* bytes) const override {
    return rows_->read_ccq(row, bytes);
  }

 private:
  HeldRows(std::vector<float> numbers, std::shared_ptr<const CodeRows> rows)
      : CodeRows(rows->format(), rows->rows(), rows->cols()),
        numbers_(std::move(numbers)),
        rows_(std::move(rows)) {}

  std::vector<float> numbers_;
  std::shared_ptr<const CodeRows> rows_;
};

// The largest power of two up to `most` that divides `cols`.
int32_t rotation_for(int64_t cols, int32_t most) {
  int32_t block = 1;
  while (block * 2 <= most && cols % (block * 2) == 0) block *= 2;
  return block;
}

Rounding rounding(const WeightScheme& scheme) {
  return {scheme.method == Method::kInt4 ? CodeType::kInt4 : CodeType::kInt8, scheme.group,
          scheme.has_min, scheme.search ? ScaleSearch::kMinError : ScaleSearch::kAbsMax};
}

}  // namespace

std::optional<Rounding> integer_rounding(const WeightScheme& scheme) {
  if (scheme.method != Method::kInt8 && scheme.method != Method::kInt4) return std::nullopt;
  return rounding(scheme);
}

CodeFormat scheme_format(const WeightScheme& scheme) {
  const std::optional<Rounding> integers = integer_rounding(scheme);
  ERNE_CHECK(integers, "{} has no integers", scheme.name());
  return {integers->type, integers->group, integers->has_min, DType::kBF16};
}

std::shared_ptr<const CodeRows> quantize_rows(const MatrixView& numbers,
                                              const WeightScheme& scheme) {
  switch (scheme.method) {
    case Method::kFp8Block:
      return fp8_rows(numbers, Fp8Scaling::kBlock);
    case Method::kFp8Channel:
      return fp8_rows(numbers, Fp8Scaling::kRow);
    case Method::kFp8Tensor:
      return fp8_rotated_rows(numbers, rotation_for(numbers.cols, scheme.rotation));
    case Method::kW8a8:
      return with_inputs(round_to_nearest(numbers, rounding(scheme)), Inputs::kInt8);
    case Method::kW4a8:
      return w4a8_rows(numbers, rotation_for(numbers.cols, scheme.rotation));
    case Method::kCcq25:
      return ccq_rows(numbers, CodeType::kCcq25);
    case Method::kCcq2:
      return ccq_rows(numbers, CodeType::kCcq2);
    case Method::kInt8:
    case Method::kInt4:
      break;
  }
  return round_to_nearest(numbers, rounding(scheme));
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

void check_plan(const QuantizationPlan& plan, const TextConfig& config) {
  if (!plan.base()) return;
  const WeightScheme base = *plan.base();
  if (base.method != Method::kCcq25 && base.method != Method::kCcq2) return;
  const std::vector<ExpectedTensor> tensors = expected_tensors(config);
  const bool used = std::any_of(tensors.begin(), tensors.end(), [&](const ExpectedTensor& tensor) {
    return tensor.kind == TensorKind::kLinear && plan.scheme(tensor.name, config.is_moe()) == base;
  });
  if (used) return;
  fail(Code::kInvalidArgument,
       "{} is for the experts of layers {} and up, and this model has none; say which linears are "
       "to have it, e.g. --mixed {}={}",
       base.name(), kFirstCcqLayer, config.is_moe() ? "experts" : "mlp", base.name());
}

}  // namespace erne
