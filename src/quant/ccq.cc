// The decoders. Encoders: ccq_encode.cc.
#include "quant/ccq.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "base/error.h"

namespace erne {
namespace {

constexpr int kWords = 10;  // of a WINT2.5 group
constexpr int kBytes = 16;  // of a WINT2 group
constexpr std::array<int, 7> kShifts25{13, 11, 9, 6, 4, 2, 0};

int64_t groups_of(int64_t cols) { return (cols + kCcqGroup - 1) / kCcqGroup; }

CodeFormat format_of(CodeType type) {
  return {type, static_cast<int32_t>(kCcqGroup), false, DType::kF32};
}

// Rows that are read as they are stored and decoded from that.
class EncodedRows : public CodeRows {
 public:
  using CodeRows::CodeRows;

  void read(int64_t row, int8_t* codes, float* scales, float* /*mins*/) const final {
    std::vector<uint8_t> bytes(static_cast<size_t>(ccq_row_bytes(format().type, cols())));
    const CcqConstants constants = read_ccq(row, bytes.data());
    ccq_decode_row(format().type, bytes.data(), constants, cols(), codes, scales);
  }
};

class Ccq25Rows final : public EncodedRows {
 public:
  Ccq25Rows(Ccq25Tensors tensors, int64_t rows, int64_t cols)
      : EncodedRows(format_of(CodeType::kCcq25), rows, cols), tensors_(std::move(tensors)) {}

  CcqConstants read_ccq(int64_t row, uint8_t* bytes) const override {
    for (int64_t i = 0; i < groups_of(cols()) * kWords; ++i) {
      const auto word = tensors_.words.at<uint16_t>(i * rows() + row);
      bytes[2 * i] = static_cast<uint8_t>(word & 0xFF);
      bytes[2 * i + 1] = static_cast<uint8_t>(word >> 8);
    }
    return {.super = to_f32(tensors_.super.at<bf16>(row))};
  }

 private:
  Ccq25Tensors tensors_;
};

class Ccq2Rows final : public EncodedRows {
 public:
  Ccq2Rows(Ccq2Tensors tensors, int64_t rows, int64_t cols)
      : EncodedRows(format_of(CodeType::kCcq2), rows, cols), tensors_(std::move(tensors)) {}

  CcqConstants read_ccq(int64_t row, uint8_t* bytes) const override {
    const int64_t groups = groups_of(cols());
    for (int64_t i = 0; i < groups * kBytes; ++i)
      *bytes++ = tensors_.codes.at<uint8_t>(i * rows() + row);
    for (int64_t i = 0; i < (groups + 1) / 2; ++i)
      *bytes++ = tensors_.local.at<uint8_t>(i * rows() + row);
    return {to_f32(tensors_.super.at<bf16>(row)), tensors_.code_scale.at<float>(row),
            tensors_.code_zp.at<float>(row)};
  }

 private:
  Ccq2Tensors tensors_;
};

class FreshRows final : public EncodedRows {
 public:
  FreshRows(const MatrixView& weights, CodeType type)
      : EncodedRows(format_of(type), weights.rows, weights.cols), weights_(weights) {}

  CcqConstants read_ccq(int64_t row, uint8_t* bytes) const override {
    std::vector<float> w(static_cast<size_t>(cols()));
    read_row_f32(weights_, row, w.data());
    return format().type == CodeType::kCcq25 ? ccq25_encode_row(w.data(), cols(), bytes)
                                             : ccq2_encode_row(w.data(), cols(), bytes);
  }

 private:
  MatrixView weights_;
};

void decode25(const uint8_t* bytes, float super, int8_t* codes, float* scales, int64_t groups) {
  for (int64_t g = 0; g < groups; ++g, bytes += 2 * kWords, codes += kCcqGroup) {
    const auto word = [&](int i) {
      return static_cast<uint16_t>(bytes[2 * i] | bytes[2 * i + 1] << 8);
    };
    for (int w = 0; w < kWords - 1; ++w) {
      const std::array<int8_t, 7> values = ccq25_word(word(w));
      std::copy(values.begin(), values.end(), codes + 7 * w);
    }
    const uint16_t last = word(kWords - 1);
    codes[kCcqGroup - 1] = static_cast<int8_t>((last >> 13) - 4);
    scales[g] = static_cast<float>(last & 0x1FFF) * super;
  }
}

void decode2(const uint8_t* bytes, const CcqConstants& constants, int8_t* codes, float* scales,
             int64_t groups) {
  const auto book = ccq2_book(constants.code_scale, constants.code_zp);
  const uint8_t* locals = bytes + groups * kBytes;
  for (int64_t i = 0; i < groups * kBytes; ++i)
    std::copy(book[bytes[i]].begin(), book[bytes[i]].end(), codes + 4 * i);
  for (int64_t g = 0; g < groups; ++g) {
    const int local = g % 2 == 0 ? locals[g / 2] >> 4 : locals[g / 2] & 15;
    scales[g] = static_cast<float>(local) * constants.super;
  }
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

void ccq_decode_row(CodeType type, const uint8_t* bytes, const CcqConstants& constants,
                    int64_t cols, int8_t* codes, float* scales) {
  const int64_t groups = groups_of(cols);
  std::vector<int8_t> padded(static_cast<size_t>(groups * kCcqGroup));
  if (type == CodeType::kCcq25) {
    decode25(bytes, constants.super, padded.data(), scales, groups);
  } else {
    decode2(bytes, constants, padded.data(), scales, groups);
  }
  std::copy_n(padded.begin(), cols, codes);
}

std::unique_ptr<CodeRows> ccq25_rows(const Ccq25Tensors& tensors, int64_t rows, int64_t cols) {
  check_matrix(rows, cols);
  check_tensor(tensors.words, {DType::kU16, DType::kI16}, {groups_of(cols) * kWords, rows});
  check_tensor(tensors.super, {DType::kBF16, DType::kU16}, {rows});
  return std::make_unique<Ccq25Rows>(tensors, rows, cols);
}

std::unique_ptr<CodeRows> ccq2_rows(const Ccq2Tensors& tensors, int64_t rows, int64_t cols) {
  check_matrix(rows, cols);
  const int64_t groups = groups_of(cols);
  check_tensor(tensors.codes, {DType::kU8, DType::kI8}, {groups * kBytes, rows});
  check_tensor(tensors.local, {DType::kU8, DType::kI8}, {(groups + 1) / 2, rows});
  check_tensor(tensors.code_scale, {DType::kF32}, {rows});
  check_tensor(tensors.code_zp, {DType::kF32}, {rows});
  check_tensor(tensors.super, {DType::kBF16, DType::kU16}, {rows});
  for (int64_t n = 0; n < rows; ++n) {
    const float first = tensors.code_zp.at<float>(n);
    const float last = std::fma(255.0F, tensors.code_scale.at<float>(n), first);
    if (std::fabs(first) < 0x1p30F && std::fabs(last) < 0x1p30F) continue;
    fail(Code::kCorrupt, "{}: output {} maps codes to {} … {}; states must stay below 2^30",
         tensors.code_scale.name, n, first, last);
  }
  return std::make_unique<Ccq2Rows>(tensors, rows, cols);
}

std::unique_ptr<CodeRows> ccq_rows(const MatrixView& weights, CodeType type) {
  check_matrix(weights.rows, weights.cols);
  ERNE_CHECK(is_ccq(type), "codes of type {}", static_cast<int>(type));
  return std::make_unique<FreshRows>(weights, type);
}

}  // namespace erne
