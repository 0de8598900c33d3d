// The table of CPU kernels: one per instruction set, all on raw pointers, each call the work of one
// thread.
//
// cpu_device.cc splits an operation over threads and calls these; isa_*.cc fill the tables. Every
// kernel's result for a row or an output column is the same bits however the work was split. Plain
// data only: ISA files include this header and must emit no weak symbols
// (tools/check_isa_symbols.sh).
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/linear_kernel.h"

namespace erne::cpu {

/// Positions of one score panel, and of one softmax chunk. Chunks are counted from position 0 of a
/// sequence, so that a row's arithmetic depends on its position alone.
inline constexpr int32_t kKvPanel = 16;
inline constexpr int32_t kKvChunk = 256;

/// Elements of a KV cache. kI8 and kF8 (e4m3fn) are codes of 8 bits with scales.
enum class KvType : uint8_t { kF32, kBF16, kI8, kF8 };
constexpr bool has_scales(KvType type) { return type == KvType::kI8 || type == KvType::kF8; }

/// Neighbours in memory that are multiplied at once (g below), and the place of number i in them.
constexpr int32_t kv_group(KvType type) {
  return type == KvType::kF32 ? 1 : type == KvType::kBF16 ? 2 : 4;
}
constexpr int64_t place_in_group(KvType type, int64_t i) {
  constexpr int64_t kSwapped[] = {0, 2, 1, 3};
  return type == KvType::kF8 ? kSwapped[i % 4] : i % kv_group(type);
}

/// Layout of a KV block: [layer][kv head] of {K, V, bf16 scales}. K is [block_tokens / 16]
/// [key_width / g][16][g], V [block_tokens / g][v_width][g], with g = 1 for f32, 2 for bf16, 4 for
/// codes; key_width = D rounded up to g, v_width = D rounded up to 16. Four fp8 codes stand in the
/// order 0, 2, 1, 3, so that bytes of equal parity are neighbours. Scales, of codes alone, are
/// [block_tokens] of K, then of V.
struct KvLayout {
  int64_t block_bytes;
  int64_t layer_bytes;
  int64_t head_bytes;
  int64_t v_offset;       ///< bytes from the start of a head to its V
  int64_t scales_offset;  ///< and to its scales
  int32_t block_tokens;
  int32_t head_dim;
  int32_t key_width;
  int32_t v_width;
  int32_t element_bytes;
  KvType type;
  bool fixed_scales;  ///< all 1 (NaN for rows with a NaN): rows are whole codes
};

struct AttentionTask {
  const void* qkv;
  bool bf16;           ///< qkv and the output; else f32
  int64_t row_stride;  ///< elements
  int32_t num_heads;
  int32_t kv_heads;
  float scale;
  KvLayout kv;
  const uint8_t* cache;  ///< start of this layer in block 0
};

/// Rows of one sequence and one kv head: flat row i is token i / group and query head kv_head *
/// group + i % group.
struct AttentionTile {
  const int32_t* blocks;   ///< the sequence's block ids
  int64_t first_token;     ///< the sequence's first row of qkv
  int64_t first_position;  ///< and its position
  int64_t row;             ///< first flat row
  int32_t rows;
  int32_t kv_head;
};

/// Softmax state of a tile over some positions: out[r, d] = sum of exp(s - max) * v. sum is 0 where
/// nothing was attended.
struct AttentionPartial {
  float* out;  ///< [rows, v_width]
  float* max;  ///< [rows]
  float* sum;  ///< [rows]
};

/// Attends the tile, of any number of rows, to positions [chunk * kKvChunk, (chunk + 1) *
/// kKvChunk).
using AttendFn = void (*)(const AttentionTask& task, const AttentionTile& tile, int64_t chunk,
                          AttentionPartial part, Scratch scratch);

/// A loop of multiply-adds in registers.
struct PeakLoop {
  void (*run)(int64_t iterations);  ///< null where the ISA has no such instruction
  int64_t operations;               ///< of one iteration, a multiply-add counting two
};

struct Kernels {
  const char* name;
  LinearKernel linear_f32;
  LinearKernel linear_bf16;
  /// Of quantised weights, by CodeType and Inputs; the layout depends on the former alone.
  LinearKernel linear_codes[5][3];

  /// x[n] := x H on blocks of `block` values, as hadamard() in quant/, the same bits.
  void (*hadamard)(float* x, int64_t n, int32_t block);

  /// y = x / sqrt(mean(x^2) + eps) * w, one row; y f32 or bf16.
  void (*rms_norm)(const float* x, const float* w, float eps, int64_t size, void* y, bool y_bf16);
  /// Rotates adjacent pairs of `heads` consecutive heads of 2 * half values in place.
  void (*rotate)(void* x, int64_t heads, int64_t half, const float* cos, const float* sin,
                 bool bf16);

  int32_t attention_rows;  ///< that a tile computes together; best in a multiple of it
  size_t (*attention_scratch_bytes)(int64_t v_width);
  AttendFn attend_f32;    ///< f32 queries, f32 cache
  AttendFn attend_mixed;  ///< f32 queries, bf16 or fp8 cache
  AttendFn attend_bf16;   ///< bf16 queries, bf16 or fp8 cache
  AttendFn attend_int8;   ///< any queries, int8 cache
  /// into := into followed by next; rows with next.sum == 0 stay.
  void (*merge)(AttentionPartial into, AttentionPartial next, int32_t rows, int64_t v_width);
  /// y[0 .. head_dim) = out / sum for one row.
  void (*finish_row)(const float* out, float sum, int64_t head_dim, void* y, bool y_bf16);

  /// y[e] = x . w[e, :] for e < rows.
  void (*dot_rows)(const float* x, const float* w, int64_t rows, int64_t size, float* y);
  /// x += sum over j < count, in order, of weights[j] * y[slots[j], :].
  void (*combine)(float* x, const void* y, bool y_bf16, int64_t size, const int32_t* slots,
                  const float* weights, int64_t count);

  PeakLoop peak_f32;
  PeakLoop peak_bf16;
  PeakLoop peak_int8;
  /// Reads `bytes` (a multiple of 512) in address order; the value depends on all of them.
  uint64_t (*read_all)(const void* data, int64_t bytes);
};

/// Null where this build has no such table (another processor family).
const Kernels* generic_kernels();
const Kernels* avx2_kernels();
const Kernels* avx512_kernels();
const Kernels* avx512_bf16_kernels();
const Kernels* amx_kernels();

/// Whether the tile registers give the right product. Only to be asked where the processor
/// announces AMX and the kernel has granted it.
bool amx_multiplies();
/// The AMX linears on tiles kept in arrays: their logic, for tests, on any machine with AVX-512
/// BF16 and VNNI.
Kernels scalar_tile_kernels();

}  // namespace erne::cpu
