// AMX: bf16 linears on tile registers, and where the processor has AMX-INT8 those of int8 and int4
// codes; everything else from the AVX-512 BF16 table.
#include <cpuid.h>

#include "cpu/kernels.h"
#include "cpu/vec/avx512.h"

namespace erne::cpu {
namespace {

#include "cpu/kernels/amx.inc"
#include "cpu/kernels/amx_codes.inc"

/// The processor's tiles. Assembly rather than intrinsics: those take literal register numbers
/// only, not template arguments.
class HardwareTiles {
 public:
  /// Palette 1, eight tiles of 16 rows of 64 bytes.
  void configure() {
    struct alignas(64) Config {
      uint8_t palette = 1;
      uint8_t start_row = 0;
      uint8_t reserved[14] = {};
      uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    };
    const Config config;
    asm volatile("ldtilecfg %0" : : "m"(config));
  }
  /// Gives the registers back, so that a thread switch need not save them.
  void release() { asm volatile("tilerelease"); }
  template <int kTile>
  void clear() {
    asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
  }
  template <int kTile>
  void load(const void* from, int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(kTile) : "memory");
  }
  template <int kTile>
  void save(void* to, int64_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride), "i"(kTile) : "memory");
  }
  template <int kSums, int kLeft, int kRight>
  void dot() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSums), "i"(kLeft), "i"(kRight));
  }
  template <int kSums, int kLeft, int kRight>
  void dot_bytes() {
    asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSums), "i"(kLeft), "i"(kRight));
  }
};

void peak_tiles(int64_t iterations) {
  HardwareTiles tiles;
  tiles.configure();
  for (int64_t i = 0; i < iterations; ++i) {
    tiles.dot<0, 4, 6>();
    tiles.dot<1, 4, 7>();
    tiles.dot<2, 5, 6>();
    tiles.dot<3, 5, 7>();
  }
  tiles.release();
}

/// One product of small integers, exact in any order.
template <class Tiles>
void sample_product(float* sums) {
  uint16_t left[kTileElements];
  uint16_t right[kTileElements];
  for (int i = 0; i < kTileElements; ++i) {
    left[i] = static_cast<uint16_t>(i % 3 == 0 ? 0x3F80 : 0xC000);   // 1 and -2
    right[i] = static_cast<uint16_t>(i % 5 == 0 ? 0x4040 : 0x3F80);  // 3 and 1
  }
  Tiles tiles;
  tiles.configure();
  tiles.template clear<0>();
  tiles.template load<4>(left, kTileK * 2);
  tiles.template load<6>(right, 64);
  tiles.template dot<0, 4, 6>();
  tiles.template save<0>(sums, 64);
  tiles.release();
}

/// One product of all signs and sizes of bytes.
template <class Tiles>
void sample_byte_product(int32_t* sums) {
  uint8_t left[kTileBytes];
  uint8_t right[kTileBytes];
  for (int i = 0; i < kTileBytes; ++i) {
    left[i] = static_cast<uint8_t>(i * 37);
    right[i] = static_cast<uint8_t>(i * 91 + i / 64);
  }
  Tiles tiles;
  tiles.configure();
  tiles.template clear<0>();
  tiles.template load<4>(left, 64);
  tiles.template load<6>(right, 64);
  tiles.template dot_bytes<0, 4, 6>();
  tiles.template save<0>(sums, 64);
  tiles.release();
}

/// Whether the processor announces AMX-INT8 and multiplies bytes as it should. Only to be asked
/// where amx_multiplies().
bool amx_multiplies_bytes() {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
  __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx);
  if ((edx >> 25 & 1U) == 0) return false;
  int32_t sums[kTileSide * kTileSide];
  int32_t expected[kTileSide * kTileSide];
  sample_byte_product<HardwareTiles>(sums);
  sample_byte_product<ScalarTiles>(expected);
  return __builtin_memcmp(sums, expected, sizeof(sums)) == 0;
}

Kernels make_table() {
  Kernels table = *avx512_bf16_kernels();
  table.name = "amx";
  table.linear_bf16 = tiled_kernel<HardwareTiles>();
  if (amx_multiplies_bytes()) set_tiled_codes<HardwareTiles>(&table);
  table.peak_bf16 = {peak_tiles, 4 * kTileSide * kTileSide * kTileK * 2};
  return table;
}

}  // namespace

bool amx_multiplies() {
  float sums[kTileSide * kTileSide];
  float expected[kTileSide * kTileSide];
  sample_product<HardwareTiles>(sums);
  sample_product<ScalarTiles>(expected);
  return __builtin_memcmp(sums, expected, sizeof(sums)) == 0;
}

const Kernels* amx_kernels() {
  static const Kernels table = make_table();
  return &table;
}

Kernels scalar_tile_kernels() {
  Kernels table = *avx512_bf16_kernels();
  table.linear_bf16 = tiled_kernel<ScalarTiles>();
  set_tiled_codes<ScalarTiles>(&table);
  return table;
}

}  // namespace erne::cpu
