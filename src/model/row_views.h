// Other rows seen differently: a part of them, or under another format.
#pragma once

#include <memory>
#include <utility>

#include "tensor/code_rows.h"

namespace erne {

/// Rows [first, first + rows) of `all`, multiplied as `format` says (the same codes and scales).
class RowView final : public CodeRows {
 public:
  RowView(std::shared_ptr<const CodeRows> all, CodeFormat format, int64_t first, int64_t rows)
      : CodeRows(format, rows, all->cols()), all_(std::move(all)), first_(first) {}

  void read(int64_t row, int8_t* codes, float* scales, float* mins) const override {
    all_->read(first_ + row, codes, scales, mins);
  }
  CcqConstants read_ccq(int64_t row, uint8_t* bytes) const override {
    return all_->read_ccq(first_ + row, bytes);
  }
  float input_absmax() const override { return all_->input_absmax(); }

 private:
  std::shared_ptr<const CodeRows> all_;
  int64_t first_;
};

/// All rows with int8 inputs, or with rotated ones.
inline std::shared_ptr<const CodeRows> with_inputs(std::shared_ptr<const CodeRows> rows,
                                                   Inputs inputs) {
  CodeFormat format = rows->format();
  format.inputs = inputs;
  const int64_t count = rows->rows();
  return std::make_shared<RowView>(std::move(rows), format, 0, count);
}
inline std::shared_ptr<const CodeRows> with_rotation(std::shared_ptr<const CodeRows> rows,
                                                     int32_t rotation) {
  CodeFormat format = rows->format();
  format.rotation = rotation;
  const int64_t count = rows->rows();
  return std::make_shared<RowView>(std::move(rows), format, 0, count);
}

}  // namespace erne
