// Convolutional code quantisation, ERNIE's 2-bit experts (spec quantization.md 8; arXiv
// 2507.07145): WINT2.5 packs 64 inputs of one output into ten 16-bit words, WINT2 four inputs into
// a byte. Tensors stand as in the checkpoint: inputs (K) first, outputs (N) innermost. A matrix
// here has N rows and K columns. Widths that are no multiple of 64 are ours: the last group is
// padded with zeros.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "quant/raw_tensor.h"
#include "tensor/code_rows.h"
#include "tensor/tensor.h"

namespace erne {

/// The codes of the seven windows of a WINT2.5 word: -4 … 3.
std::array<int8_t, 7> ccq25_word(uint16_t word);
/// The four weights of every WINT2 byte, -32 … 31, for an output's constants; one fma.
std::array<std::array<int8_t, 4>, 256> ccq2_book(float code_scale, float code_zp);

/// Codes [cols] and scales [groups] of a row in the form of CodeRows::read_ccq.
void ccq_decode_row(CodeType type, const uint8_t* bytes, const CcqConstants& constants,
                    int64_t cols, int8_t* codes, float* scales);

/// The tensors of WINT2.5.
struct Ccq25Tensors {
  RawTensor words;  ///< uint16 [groups of 64 * 10, rows]
  RawTensor super;  ///< bfloat16 [rows]
};
/// WINT2.5 as kCcq25; scale = local * super. Every mismatch throws Error{kCorrupt} with the
/// tensor's name.
std::unique_ptr<CodeRows> ccq25_rows(const Ccq25Tensors& tensors, int64_t rows, int64_t cols);

/// The tensors of WINT2.
struct Ccq2Tensors {
  RawTensor codes;       ///< uint8 [groups of 64 * 16, rows]
  RawTensor local;       ///< uint8 [ceil(groups / 2), rows]; high nibble: the even group of 64
  RawTensor code_scale;  ///< float32 [rows]
  RawTensor code_zp;     ///< float32 [rows]
  RawTensor super;       ///< bfloat16 [rows]
};
/// WINT2 as kCcq2. Errors as above, also for constants that are not finite or give states beyond
/// 2^30.
std::unique_ptr<CodeRows> ccq2_rows(const Ccq2Tensors& tensors, int64_t rows, int64_t cols);

/// Encoders of one row (ours; the official ones are not public): Viterbi over the shared bits with
/// local scale 0.47 rms; and the nearest of 256 codebook vectors with the best of the local scales
/// near the group's rms, under the codebook of three that fits a sample of the row. A row with NaN
/// or infinity gets a scale of NaN. The same row gives the same bytes. bytes: ccq_row_bytes().
CcqConstants ccq25_encode_row(const float* weights, int64_t cols, uint8_t* bytes);
CcqConstants ccq2_encode_row(const float* weights, int64_t cols, uint8_t* bytes);

/// The rows of a matrix, encoded whenever one is read; `weights` must outlive them.
std::unique_ptr<CodeRows> ccq_rows(const MatrixView& weights, CodeType type);

}  // namespace erne
