// How files and kernels pack small codes into words (spec quantization.md 3.3, 11, 13). Every pack
// has its exact inverse. Sizes are checked: Error{kInvalidArgument} names what does not fit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "quant/raw_tensor.h"
#include "tensor/code_rows.h"

namespace erne {

/// The canonical int4 order: code 2j in the low nibble of byte j, 2j + 1 in the high one; an odd
/// count leaves the last high nibble 0. Only the low four bits of a code count.
std::vector<uint8_t> pack_nibbles(std::span<const int8_t> codes);
enum class NibbleSign : uint8_t { kSigned, kUnsigned };  ///< -8 … 7 or 0 … 15
/// packed must have (count + 1) / 2 bytes.
std::vector<int8_t> unpack_nibbles(std::span<const uint8_t> packed, size_t count, NibbleSign sign);

/// Paddle's weight-only layout for CUDA 7.5 … 9.0 of codes [rows, cols] (outputs, inputs): rows
/// permuted inside MMA tiles, interleaved by 64 inputs, biased to unsigned, reordered inside
/// registers. bits 8 or 4; cols a multiple of 64, rows of 16. rows * cols * bits / 8 bytes.
std::vector<uint8_t> paddle_sm80_pack(std::span<const int8_t> codes, int64_t rows, int64_t cols,
                                      int bits);
std::vector<int8_t> paddle_sm80_unpack(std::span<const uint8_t> packed, int64_t rows, int64_t cols,
                                       int bits);

/// The same as rows over mapped bytes: codes int8 or uint8, [rows, cols] of 8 or [rows / 2, cols]
/// of 4 bits, scale f32, f16 or bf16 [rows]. Errors as check_tensor, and Error{kCorrupt} for sizes
/// that the layout has not.
std::unique_ptr<CodeRows> paddle_sm80_rows(const RawTensor& codes, const RawTensor& scale, int bits,
                                           int64_t rows, int64_t cols);

/// A dense stream of `bits`-wide values, 1 … 8, low bits first, straddling words: how GPTQ packs
/// along inputs and compressed-tensors along a row. ceil(count * bits / 32) words.
std::vector<uint32_t> pack_bits(std::span<const uint8_t> values, int bits);
std::vector<uint8_t> unpack_bits(std::span<const uint32_t> words, size_t count, int bits);

/// AWQ (gemm): eight 4-bit values of one row in a word, slot i holding value [0,2,4,6,1,3,5,7][i].
/// The count is a multiple of 8.
std::vector<uint32_t> awq_pack(std::span<const uint8_t> values);
std::vector<uint8_t> awq_unpack(std::span<const uint32_t> words);

/// Rows of bit streams anywhere in memory: value j of stream i starts at bit j * bits, in words
/// that lie word_stride apart. Unaligned, little endian.
struct BitMatrix {
  const std::byte* words = nullptr;
  int bits = 4;
  int64_t row_stride = 0;   ///< words from stream to stream
  int64_t word_stride = 1;  ///< words from one word of a stream to the next
  bool awq_order = false;   ///< bits is 4

  uint32_t get(int64_t i, int64_t j) const;
};

}  // namespace erne
