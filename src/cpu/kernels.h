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

namespace erne::cpu {

/// Where element (n, k) of a packed float weight sits, and code (n, k) of a quantised one inside a
/// group of scales. Rows are cut into panels of `panel` rows, columns
/// into groups of `k_group`, padded with zeros to whole panels and to a multiple of k_align; memory
/// order is [panel][k / group][row in panel][k % group]. A gate-up weight alternates gate panels
/// and up panels.
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
/// has_min: the code) of row r in its low bits and that of row r + panel / 2 in its high bits.
struct CodeLayout {
  int32_t group;
  ScaleType scale_type;
  bool has_min;
};
/// Columns that share a scale of the inputs where the weight has one scale for a whole row; else
/// these are the weight's groups.
inline constexpr int64_t kInputBlock = 128;
/// Inputs are rounded to integers of -most ... most times (largest magnitude of the block / most).
inline constexpr int32_t kMostInt8 = 127;
inline constexpr int32_t kMostFull = 127 * 128;  ///< two bytes: 128 * (-127 ... 127) + (-64 ... 63)
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
  CodeLayout codes;   ///< of a quantised weight
  const float* bias;  ///< [n] in the order of the rows, or null
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
  int64_t (*block_rows)(int64_t k);  ///< the caller cuts larger M into blocks of at most so many
};

/// Positions of one score panel, and of one softmax chunk. Chunks are counted from position 0 of a
/// sequence, so that a row's arithmetic depends on its position alone.
inline constexpr int32_t kKvPanel = 16;
inline constexpr int32_t kKvChunk = 256;

/// Elements of a KV cache. kI8 and kF8 (e4m3fn) are codes of 8 bits with scales.
enum class KvType : uint8_t { kF32, kBF16, kI8, kF8 };
constexpr bool has_scales(KvType type) { return type == KvType::kI8 || type == KvType::kF8; }

/// Layout of a KV block: [layer][kv head] of {K, V, bf16 scales}. K is [block_tokens / 16][D / g]
/// [16][g], V [block_tokens / g][v_width][g], with g = 1 for f32, else 2, and v_width = D rounded
/// up to 16; scales, of codes alone, are [block_tokens] of K, then of V.
struct KvLayout {
  int64_t block_bytes;
  int64_t layer_bytes;
  int64_t head_bytes;
  int64_t v_offset;       ///< bytes from the start of a head to its V
  int64_t scales_offset;  ///< and to its scales
  int32_t block_tokens;
  int32_t head_dim;
  int32_t v_width;
  int32_t element_bytes;
  KvType type;
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
  LinearKernel linear_codes[3][2];

  /// y = x / sqrt(mean(x^2) + eps) * w, one row; y f32 or bf16.
  void (*rms_norm)(const float* x, const float* w, float eps, int64_t size, void* y, bool y_bf16);
  /// Rotates adjacent pairs of `heads` consecutive heads of 2 * half values in place.
  void (*rotate)(void* x, int64_t heads, int64_t half, const float* cos, const float* sin,
                 bool bf16);

  int32_t attention_rows;  ///< that a tile computes together; best in a multiple of it
  size_t (*attention_scratch_bytes)(int64_t v_width);
  AttendFn attend_f32;    ///< f32 queries, f32 cache
  AttendFn attend_mixed;  ///< f32 queries, any other cache
  AttendFn attend_bf16;   ///< bf16 queries, any cache but f32
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
/// The AMX linear on tiles kept in arrays: its logic, for tests, on any machine with AVX-512 BF16.
LinearKernel scalar_tile_linear();

}  // namespace erne::cpu
