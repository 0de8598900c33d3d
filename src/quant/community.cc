#include "quant/community.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "quant/affine_rows.h"

namespace erne {
namespace {

int64_t whole_words(const RawTensor& tensor, int64_t values, int bits, const char* what) {
  if (values * bits % 32 != 0) {
    fail(Code::kCorrupt, "{}: {} {} of {} bits do not fill 32-bit words", tensor.name, values, what,
         bits);
  }
  return values * bits / 32;
}

// -1 (the whole row) resolved and the rest checked.
int64_t checked_group(const RawTensor& tensor, int64_t group, int64_t rows, int64_t cols) {
  check_matrix(rows, cols);
  if (group == -1) return cols;
  if (group < 1) fail(Code::kCorrupt, "{}: group size {}", tensor.name, group);
  return std::min(group, cols);
}

void check_floating(const RawTensor& tensor, std::initializer_list<int64_t> shape) {
  check_tensor(tensor, {DType::kF16, DType::kBF16, DType::kF32}, shape);
}

void check_words(const RawTensor& tensor, std::initializer_list<int64_t> shape) {
  check_tensor(tensor, {DType::kI32, DType::kU32}, shape);
}

// [groups, rows] to [rows, groups].
std::vector<float> transposed(const std::vector<float>& values, int64_t groups, int64_t rows) {
  std::vector<float> out(values.size());
  for (int64_t n = 0; n < rows; ++n) {
    for (int64_t g = 0; g < groups; ++g) {
      out[static_cast<size_t>(n * groups + g)] = values[static_cast<size_t>(g * rows + n)];
    }
  }
  return out;
}

std::vector<int32_t> group_indices(const RawTensor& g_idx, int64_t groups, int64_t cols) {
  check_tensor(g_idx, {DType::kI32}, {cols});
  std::vector<int32_t> indices(static_cast<size_t>(cols));
  std::memcpy(indices.data(), g_idx.data.data(), g_idx.data.size());
  for (const int32_t g : indices) {
    if (g < 0 || g >= groups) {
      fail(Code::kCorrupt, "{}: group {} of {}", g_idx.name, g, groups);
    }
  }
  return indices;
}

Affine gptq_affine(const GptqTensors& t, GptqFormat format, int64_t rows, int64_t cols) {
  const int bits = format.bits;
  if (bits != 2 && bits != 3 && bits != 4 && bits != 8) {
    fail(Code::kUnsupported, "{}: {} bits; GPTQ has 2, 3, 4 or 8", t.qweight.name, bits);
  }
  Affine a;
  a.cols = cols;
  a.name = t.qweight.name;
  a.group = checked_group(t.qweight, format.group, rows, cols);
  const int64_t groups = a.groups();
  check_words(t.qweight, {whole_words(t.qweight, cols, bits, "inputs"), rows});
  const int64_t zero_words = whole_words(t.qzeros, rows, bits, "outputs");
  check_words(t.qzeros, {groups, zero_words});
  check_floating(t.scales, {groups, rows});
  a.codes = {t.qweight.data.data(), bits, 1, rows};
  a.scales = transposed(float_values(t.scales), groups, rows);
  a.scale_type = t.scales.dtype;
  const BitMatrix zeros{t.qzeros.data.data(), bits, zero_words};
  const int add = format.zero_minus_one ? 1 : 0;
  for (int64_t n = 0; n < rows; ++n) {
    for (int64_t g = 0; g < groups; ++g) {
      const int zero = (static_cast<int>(zeros.get(g, n)) + add) & ((1 << bits) - 1);
      a.zeros.push_back(static_cast<int16_t>(zero));
    }
  }
  if (t.g_idx) a.group_of = group_indices(*t.g_idx, groups, cols);
  return a;
}

// The scale's shape among those that the format allows, as [rows, groups].
std::vector<float> compressed_scales(const RawTensor& scale, int64_t groups, int64_t rows) {
  if (scale.shape.size() == 2) {
    check_floating(scale, {rows, groups});
    return float_values(scale);
  }
  if (!scale.shape.empty()) {
    check_floating(scale, {1});
  } else {
    check_floating(scale, {});
  }
  return std::vector<float>(static_cast<size_t>(rows * groups), float_values(scale)[0]);
}

class StoredFp8Rows final : public CodeRows {
 public:
  StoredFp8Rows(RawTensor weight, CodeFormat format, Fp8Block block, std::vector<float> scales,
                int64_t rows, int64_t cols)
      : CodeRows(format, rows, cols),
        weight_(std::move(weight)),
        block_(block),
        scales_(std::move(scales)) {}

  void read(int64_t row, int8_t* codes, float* scales, float* /*mins*/) const override {
    std::memcpy(codes, weight_.data.data() + row * cols(), static_cast<size_t>(cols()));
    const int64_t groups = format().groups(cols());
    const int64_t step = format().group == 0 ? cols() : format().group;
    const int64_t across = (cols() + block_.cols - 1) / block_.cols;
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t from = row / block_.rows * across + g * step / block_.cols;
      scales[g] = scales_[static_cast<size_t>(from)];
    }
  }

 private:
  RawTensor weight_;
  Fp8Block block_;
  std::vector<float> scales_;
};

}  // namespace

std::unique_ptr<CodeRows> awq_rows(const AwqTensors& t, AwqVersion version, int64_t group,
                                   int64_t rows, int64_t cols) {
  Affine a;
  a.cols = cols;
  a.name = t.qweight.name;
  a.group = checked_group(t.qweight, group, rows, cols);
  a.by_input = version == AwqVersion::kGemm;
  const int64_t groups = a.groups();
  const int64_t words = whole_words(t.qweight, a.by_input ? rows : cols, 4, "codes");
  BitMatrix zeros{t.qzeros.data.data(), 4, words, 1, a.by_input};
  int64_t scale_columns = rows;
  if (a.by_input) {
    check_words(t.qweight, {cols, words});
    check_words(t.qzeros, {groups, words});
    check_tensor(t.scales, {DType::kF16, DType::kBF16}, {groups, rows});
  } else {
    const int64_t multiple = a.group == 32 ? 4 : (a.group == 64 ? 2 : 1);
    zeros.row_stride = ((groups + 7) / 8 + multiple - 1) / multiple * multiple;
    scale_columns = 8 * zeros.row_stride;
    check_words(t.qweight, {rows, words});
    check_words(t.qzeros, {rows, zeros.row_stride});
    check_tensor(t.scales, {DType::kF16, DType::kBF16}, {rows, scale_columns});
  }
  a.codes = {t.qweight.data.data(), 4, words, 1, a.by_input};
  a.scale_type = t.scales.dtype;
  const std::vector<float> scales = float_values(t.scales);
  for (int64_t n = 0; n < rows; ++n) {
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t at = a.by_input ? g * scale_columns + n : n * scale_columns + g;
      a.scales.push_back(scales[static_cast<size_t>(at)]);
      a.zeros.push_back(static_cast<int16_t>(a.by_input ? zeros.get(g, n) : zeros.get(n, g)));
    }
  }
  return affine_rows(std::move(a), rows, cols);
}

std::unique_ptr<CodeRows> gptq_rows(const GptqTensors& tensors, GptqFormat format, int64_t rows,
                                    int64_t cols) {
  return affine_rows(gptq_affine(tensors, format, rows, cols), rows, cols);
}

std::unique_ptr<CodeRows> compressed_packed_rows(const CompressedTensors& t, int bits,
                                                 int64_t group, int64_t rows, int64_t cols) {
  if (bits < 2 || bits > 8) {
    fail(Code::kUnsupported, "{}: {} bits; 2 to 8 are supported", t.weight.name, bits);
  }
  Affine a;
  a.cols = cols;
  a.name = t.weight.name;
  a.group = checked_group(t.weight, group, rows, cols);
  const int64_t groups = a.groups();
  const int64_t words = (cols * bits + 31) / 32;
  check_words(t.weight, {rows, words});
  a.codes = {t.weight.data.data(), bits, words};
  a.scales = compressed_scales(t.scale, groups, rows);
  a.scale_type = t.scale.dtype;
  if (t.zero_point) {
    check_words(*t.zero_point, {(rows * bits + 31) / 32, groups});
    const BitMatrix zeros{t.zero_point->data.data(), bits, 1, groups};
    for (int64_t n = 0; n < rows; ++n) {
      for (int64_t g = 0; g < groups; ++g) {
        a.zeros.push_back(static_cast<int16_t>(zeros.get(g, n)));
      }
    }
  }
  if (t.g_idx) a.group_of = group_indices(*t.g_idx, groups, cols);
  return affine_rows(std::move(a), rows, cols);
}

std::unique_ptr<CodeRows> compressed_int8_rows(const CompressedTensors& t, int64_t group,
                                               int64_t rows, int64_t cols) {
  Affine a;
  a.cols = cols;
  a.name = t.weight.name;
  a.group = checked_group(t.weight, group, rows, cols);
  const int64_t groups = a.groups();
  check_tensor(t.weight, {DType::kI8}, {rows, cols});
  a.bytes = t.weight.data.data();
  a.codes.bits = 8;
  a.scales = compressed_scales(t.scale, groups, rows);
  a.scale_type = t.scale.dtype;
  if (t.zero_point) {
    if (t.zero_point->shape != t.scale.shape) {
      fail(Code::kCorrupt, "{}: shape is {}, but {} has {}", t.zero_point->name,
           shape_text(t.zero_point->shape), t.scale.name, shape_text(t.scale.shape));
    }
    const bool one = t.scale.shape.size() != 2;
    if (one) {
      check_tensor(*t.zero_point, {DType::kI8}, {1});
    } else {
      check_tensor(*t.zero_point, {DType::kI8}, {rows, groups});
    }
    for (int64_t i = 0; i < rows * groups; ++i) {
      a.zeros.push_back(static_cast<int16_t>(t.zero_point->at<int8_t>(one ? 0 : i) + 128));
    }
  }
  return affine_rows(std::move(a), rows, cols);
}

std::unique_ptr<CodeRows> fp8_stored_rows(const RawTensor& weight, const RawTensor& scale,
                                          Fp8Block block, int64_t rows, int64_t cols) {
  check_matrix(rows, cols);
  check_tensor(weight, {DType::kU8, DType::kI8}, {rows, cols});
  CodeFormat format{CodeType::kFp8, 0, false, scale.dtype};
  if (block.rows != 0 || block.cols != 0) {
    if (block.rows < 1 || block.cols < 1) {
      fail(Code::kCorrupt, "{}: blocks of {} x {}", scale.name, block.rows, block.cols);
    }
    block.cols = std::min(block.cols, cols);
    check_floating(scale,
                   {(rows + block.rows - 1) / block.rows, (cols + block.cols - 1) / block.cols});
    if (block.cols < cols) {
      format.group = block.cols % 128 == 0 ? 128 : (block.cols % 64 == 0 ? 64 : 32);
      if (block.cols % 32 != 0) {
        fail(Code::kUnsupported, "{}: blocks of {} inputs; multiples of 32 are supported",
             scale.name, block.cols);
      }
    }
  } else if (scale.shape.empty()) {
    check_floating(scale, {});
    block = {rows, cols};
  } else if (scale.shape.size() == 1 && scale.shape[0] == 1) {
    check_floating(scale, {1});
    block = {rows, cols};
  } else if (scale.shape.size() == 1) {
    check_floating(scale, {rows});
    block = {1, cols};
  } else {
    check_floating(scale, {rows, 1});
    block = {1, cols};
  }
  return std::make_unique<StoredFp8Rows>(weight, format, block, float_values(scale), rows, cols);
}

}  // namespace erne
