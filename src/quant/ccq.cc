// The decoders. Encoders: ccq_encode.cc.
#include "quant/ccq.h"

#include <cmath>
#include <utility>

#include "base/error.h"

namespace erne {
namespace {

constexpr int64_t kGroup = 64;
constexpr int kWords = 10;  // of a WINT2.5 group
constexpr std::array<int, 7> kShifts25{13, 11, 9, 6, 4, 2, 0};

void check_cols(int64_t rows, int64_t cols, int64_t multiple, const std::string& name) {
  check_matrix(rows, cols);
  if (cols % multiple != 0) {
    fail(Code::kCorrupt, "{}: {} inputs; this format needs a multiple of {}", name, cols, multiple);
  }
}

class Ccq25Rows final : public CodeRows {
 public:
  Ccq25Rows(RawTensor words, RawTensor super, int64_t rows, int64_t cols)
      : CodeRows({CodeType::kInt4, kGroup, false, DType::kF32}, rows, cols),
        words_(std::move(words)),
        super_(std::move(super)) {}

  void read(int64_t row, int8_t* codes, float* scales, float* /*mins*/) const override {
    const float super = to_f32(super_.at<bf16>(row));
    for (int64_t g = 0; g < cols() / kGroup; ++g) {
      int8_t* group = codes + g * kGroup;
      for (int w = 0; w < kWords - 1; ++w) {
        const std::array<int8_t, 7> values = ccq25_word(word(g, w, row));
        for (size_t i = 0; i < values.size(); ++i) group[7 * w + static_cast<int>(i)] = values[i];
      }
      const uint16_t last = word(g, kWords - 1, row);
      group[kGroup - 1] = static_cast<int8_t>((last >> 13) - 4);
      scales[g] = static_cast<float>(last & 0x1FFF) * super;
    }
  }

 private:
  uint16_t word(int64_t group, int index, int64_t row) const {
    return words_.at<uint16_t>((group * kWords + index) * rows() + row);
  }

  RawTensor words_;
  RawTensor super_;
};

class Ccq2Rows final : public CodeRows {
 public:
  Ccq2Rows(Ccq2Tensors tensors, int64_t rows, int64_t cols)
      : CodeRows({CodeType::kInt8, kGroup, false, DType::kF32}, rows, cols),
        tensors_(std::move(tensors)) {}

  void read(int64_t row, int8_t* codes, float* scales, float* /*mins*/) const override {
    const auto book =
        ccq2_book(tensors_.code_scale.at<float>(row), tensors_.code_zp.at<float>(row));
    const float super = to_f32(tensors_.super.at<bf16>(row));
    for (int64_t i = 0; i < cols() / 4; ++i) {
      const std::array<int8_t, 4>& values = book[tensors_.codes.at<uint8_t>(i * rows() + row)];
      for (size_t j = 0; j < 4; ++j) codes[4 * i + static_cast<int64_t>(j)] = values[j];
    }
    for (int64_t i = 0; i < cols() / (2 * kGroup); ++i) {
      const uint8_t local = tensors_.local.at<uint8_t>(i * rows() + row);
      scales[2 * i] = static_cast<float>(local >> 4) * super;
      scales[2 * i + 1] = static_cast<float>(local & 15) * super;
    }
  }

 private:
  Ccq2Tensors tensors_;
};

template <typename T>
RawTensor view_of(const char* name, DType dtype, std::vector<int64_t> shape,
                  const std::vector<T>& data) {
  return {name, dtype, std::move(shape), std::as_bytes(std::span(data))};
}

}  // namespace

std::array<int8_t, 7> ccq25_word(uint16_t word) {
  std::array<int8_t, 7> values{};
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<int8_t>((word >> kShifts25[i] & 7) - 4);
  }
  return values;
}

std::array<std::array<int8_t, 4>, 256> ccq2_book(float code_scale, float code_zp) {
  std::array<std::array<int8_t, 4>, 256> book{};
  for (size_t code = 0; code < book.size(); ++code) {
    const float x = std::floor(std::fma(static_cast<float>(code), code_scale, code_zp) + 0.5F);
    // Constants from a broken file may not fit an integer; they mean nothing then.
    const int64_t state = std::fabs(x) < 0x1p62F ? static_cast<int64_t>(x) : 0;
    for (size_t i = 0; i < 4; ++i) {
      const int shift = 9 - 3 * static_cast<int>(i);
      book[code][i] = static_cast<int8_t>(static_cast<int>(state >> shift & 63) - 32);
    }
  }
  return book;
}

std::unique_ptr<CodeRows> ccq25_rows(const RawTensor& words, const RawTensor& super, int64_t rows,
                                     int64_t cols) {
  check_cols(rows, cols, kGroup, words.name);
  check_tensor(words, {DType::kU16, DType::kI16}, {cols / kGroup * kWords, rows});
  check_tensor(super, {DType::kBF16, DType::kU16}, {rows});
  return std::make_unique<Ccq25Rows>(words, super, rows, cols);
}

std::unique_ptr<CodeRows> ccq2_rows(const Ccq2Tensors& tensors, int64_t rows, int64_t cols) {
  check_cols(rows, cols, 2 * kGroup, tensors.codes.name);
  check_tensor(tensors.codes, {DType::kU8, DType::kI8}, {cols / 4, rows});
  check_tensor(tensors.local, {DType::kU8, DType::kI8}, {cols / (2 * kGroup), rows});
  check_tensor(tensors.code_scale, {DType::kF32}, {rows});
  check_tensor(tensors.code_zp, {DType::kF32}, {rows});
  check_tensor(tensors.super, {DType::kBF16, DType::kU16}, {rows});
  return std::make_unique<Ccq2Rows>(tensors, rows, cols);
}

std::unique_ptr<CodeRows> ccq25_rows(const Ccq25& e) {
  return ccq25_rows(view_of("words", DType::kU16, {e.cols / kGroup * kWords, e.rows}, e.words),
                    view_of("super", DType::kBF16, {e.rows}, e.super), e.rows, e.cols);
}

std::unique_ptr<CodeRows> ccq2_rows(const Ccq2& e) {
  return ccq2_rows({view_of("codes", DType::kU8, {e.cols / 4, e.rows}, e.codes),
                    view_of("local", DType::kU8, {e.cols / (2 * kGroup), e.rows}, e.local),
                    view_of("code_scale", DType::kF32, {e.rows}, e.code_scale),
                    view_of("code_zp", DType::kF32, {e.rows}, e.code_zp),
                    view_of("super", DType::kBF16, {e.rows}, e.super)},
                   e.rows, e.cols);
}

}  // namespace erne
