// What a linear asks of a kernel, and how its weights are packed. Plain data only (see kernels.h).
#pragma once

#include <cstddef>
#include <cstdint>

namespace erne::cpu {

/// Where element (n, k) of a packed float weight sits, and code (n, k) of a quantised one inside a
/// group of scales. Rows are cut into panels of `panel` rows, columns into groups of `k_group`,
/// padded with zeros to whole panels and to a multiple of k_align; memory order is
/// [panel][k / group][row in panel][k % group]. A gate-up weight alternates gate panels and up
/// panels.
struct WeightLayout {
  int32_t panel;
  int32_t k_group;
  int32_t k_align;
  int32_t int8_offset;  ///< added to int8 codes, which are stored as bytes; 0 for float weights
};

enum class ScaleType : uint8_t { kF32, kBF16, kF16 };

/// How a quantised weight is packed. A panel holds its groups of scales in order (group 0: one, the
/// whole row), each of them the codes, [k / 4][row][k % 4], then a scale for every row, then with
/// has_min a minimum for every row. int8 takes a byte a code; of int4 one byte holds code + 8 (with
/// has_min: the code) of row r in its low bits and that of row r + panel / 2 in its high bits. fp8
/// takes a byte a code, the four of a row in the order of k 0, 2, 1, 3, so that bytes of equal
/// parity are neighbours; a group with a NaN code has a NaN scale.
struct CodeLayout {
  int32_t group;
  ScaleType scale_type;
  bool has_min;
};
/// Most columns that share a scale of the inputs.
inline constexpr int64_t kInputBlock = 128;
/// Inputs are rounded to integers of -most ... most times (largest magnitude of the block / most).
inline constexpr int32_t kMostInt8 = 127;
inline constexpr int32_t kMostFull = 127 * 128;  ///< two bytes: 128 * (-127 ... 127) + (-64 ... 63)
/// Columns that share a scale of the inputs: whole groups of the weight. Integers of 8 bits, where
/// the rounding shows, take its groups themselves.
constexpr int64_t input_block(const CodeLayout& codes, int32_t most) {
  return most == kMostFull || codes.group == 0 ? kInputBlock : codes.group;
}
/// A block whose values are all smaller counts as zero: its scale or the inverse of it would leave
/// the normal numbers.
inline constexpr float kLeastInput = 0x1p-96F;

enum class Finish : uint8_t { kStore, kAdd, kSiluMul };

/// One linear over M rows. A unit of work is a panel, or for gate_up a gate panel and its up panel.
struct LinearTask {
  const void* x;  ///< f32 or bf16 like a float weight
  bool x_bf16;
  int64_t x_stride;     ///< elements
  const int32_t* rows;  ///< row r reads x row rows[r]; null means r
  int64_t m;
  const void* w;
  CodeLayout codes;    ///< of a quantised weight
  float input_absmax;  ///< above 0: what +-127 stands for where a row has one scale (kInt8Row)
  const float* bias;   ///< [n] in the order of the rows, or null
  int64_t n;
  int64_t k;
  bool gate_up;
  Finish finish;
  void* y;
  int64_t y_stride;  ///< elements
  bool y_bf16;
};

/// Memory of one thread.
struct Scratch {
  void* data;
  size_t bytes;
};

/// Computes units [begin, end) of the task for all its rows.
using LinearFn = void (*)(const LinearTask& task, int64_t begin, int64_t end, Scratch scratch);

struct LinearKernel {
  WeightLayout layout;
  LinearFn run;
  size_t (*scratch_bytes)(int64_t k);
  int64_t (*block_rows)(
      int64_t k);  ///< the caller cuts larger M into blocks of at most this many rows
};

}  // namespace erne::cpu
