// Convolutional code quantisation, ERNIE's 2-bit experts (spec quantization.md 8; arXiv
// 2507.07145): WINT2.5 packs 64 inputs of one output into ten 16-bit words, WINT2 four inputs into
// a byte. Tensors stand as in the checkpoint: inputs (K) first, outputs (N) innermost. A matrix
// here has N rows and K columns.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "quant/raw_tensor.h"
#include "tensor/code_rows.h"
#include "tensor/tensor.h"

namespace erne {

/// WINT2.5, 2.5 bits a weight and a scale per output.
struct Ccq25 {
  int64_t rows = 0;
  int64_t cols = 0;             ///< a multiple of 64
  std::vector<uint16_t> words;  ///< [cols / 64 * 10, rows]
  std::vector<bf16> super;      ///< [rows]
};

/// WINT2, 2.0625 bits a weight and three constants per output.
struct Ccq2 {
  int64_t rows = 0;
  int64_t cols = 0;               ///< a multiple of 128
  std::vector<uint8_t> codes;     ///< [cols / 4, rows]
  std::vector<uint8_t> local;     ///< [cols / 128, rows]; high nibble: the even group of 64
  std::vector<float> code_scale;  ///< [rows]
  std::vector<float> code_zp;     ///< [rows]
  std::vector<bf16> super;        ///< [rows]
};

/// The codes of the seven windows of a WINT2.5 word: -4 … 3.
std::array<int8_t, 7> ccq25_word(uint16_t word);
/// The four weights of every WINT2 byte, -32 … 31, for an output's constants; one fma.
std::array<std::array<int8_t, 4>, 256> ccq2_book(float code_scale, float code_zp);

/// WINT2.5 as int4 codes -4 … 3, groups of 64, scale = local * super: exact. Tensors: words uint16
/// [cols / 64 * 10, rows], super bf16 [rows]; every mismatch throws Error{kCorrupt} with the name.
std::unique_ptr<CodeRows> ccq25_rows(const RawTensor& words, const RawTensor& super, int64_t rows,
                                     int64_t cols);

struct Ccq2Tensors {
  RawTensor codes;       ///< uint8 [cols / 4, rows]
  RawTensor local;       ///< uint8 [cols / 128, rows]
  RawTensor code_scale;  ///< float32 [rows]
  RawTensor code_zp;     ///< float32 [rows]
  RawTensor super;       ///< bfloat16 [rows]
};
/// WINT2 as int8 codes -32 … 31, groups of 64, scale = local * super: exact. Errors as above.
std::unique_ptr<CodeRows> ccq2_rows(const Ccq2Tensors& tensors, int64_t rows, int64_t cols);

/// Encoders (ours; the official ones are not public): Viterbi over the shared bits with local
/// scale 0.47 rms, and the nearest of 256 codebook vectors for every local scale and three
/// codebooks. Throw Error{kInvalidArgument} for widths that do not fit and for NaN or infinity.
Ccq25 ccq25_encode(const MatrixView& weights);
Ccq2 ccq2_encode(const MatrixView& weights);

/// The rows of an encoded matrix, which must outlive them.
std::unique_ptr<CodeRows> ccq25_rows(const Ccq25& encoded);
std::unique_ptr<CodeRows> ccq2_rows(const Ccq2& encoded);

}  // namespace erne
