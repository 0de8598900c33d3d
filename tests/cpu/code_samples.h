// Random quantised matrices for the kernel tests.
#pragma once

#include <algorithm>

#include "samples.h"
#include "tensor/code_rows.h"

namespace erne::test {

/// A quantised matrix with random codes over their whole range, and what it stands for.
class RandomCodes final : public CodeRows {
 public:
  RandomCodes(CodeFormat code_format, int64_t num_rows, int64_t num_cols, uint32_t seed)
      : CodeRows(code_format, num_rows, num_cols),
        codes_(static_cast<size_t>(num_rows * num_cols)),
        scales_(static_cast<size_t>(num_rows * code_format.groups(num_cols))),
        mins_(scales_) {
    std::mt19937 engine(seed);
    const bool int4 = code_format.type == CodeType::kInt4;
    const int low = int4 ? (code_format.has_min ? 0 : -8) : (code_format.has_min ? -128 : -127);
    const int high = int4 ? (code_format.has_min ? 15 : 7) : 127;
    std::uniform_int_distribution<int> codes(low, high);
    for (int8_t& code : codes_) code = static_cast<int8_t>(codes(engine));
    std::uniform_real_distribution<float> scales(0.001F, 0.02F);
    for (float& scale : scales_) scale = rounded(scales(engine));
    std::normal_distribution<float> mins(0.0F, 0.3F);
    for (float& min : mins_) min = code_format.has_min ? rounded(mins(engine)) : 0.0F;
  }

  void read(int64_t row, int8_t* codes, float* scales, float* mins) const override {
    const int64_t groups = format().groups(cols());
    std::copy_n(codes_.begin() + row * cols(), cols(), codes);
    std::copy_n(scales_.begin() + row * groups, groups, scales);
    if (format().has_min) std::copy_n(mins_.begin() + row * groups, groups, mins);
  }

  double value(int64_t row, int64_t col) const {
    const int64_t group = format().group == 0 ? 0 : col / format().group;
    const auto at = static_cast<size_t>(row * format().groups(cols()) + group);
    return double{scales_[at]} * codes_[static_cast<size_t>(row * cols() + col)] + mins_[at];
  }
  /// Magnitude of the larger of the two parts of value(row, col).
  double part(int64_t row, int64_t col) const {
    const int64_t group = format().group == 0 ? 0 : col / format().group;
    const auto at = static_cast<size_t>(row * format().groups(cols()) + group);
    return std::max(std::fabs(double{scales_[at]} * 128), std::fabs(double{mins_[at]}));
  }

 private:
  float rounded(float value) const {
    uint32_t memory = 0;
    convert_from_f32(&value, format().scale_type, &memory, 1);
    convert_to_f32(&memory, format().scale_type, &value, 1);
    return value;
  }

  std::vector<int8_t> codes_;
  std::vector<float> scales_;
  std::vector<float> mins_;
};

/// Rows [begin, end) of another quantised matrix.
class SomeRows final : public CodeRows {
 public:
  SomeRows(const CodeRows& all, int64_t begin, int64_t end)
      : CodeRows(all.format(), end - begin, all.cols()), all_(all), begin_(begin) {}
  void read(int64_t row, int8_t* codes, float* scales, float* mins) const override {
    all_.read(begin_ + row, codes, scales, mins);
  }

 private:
  const CodeRows& all_;
  int64_t begin_;
};

}  // namespace erne::test
