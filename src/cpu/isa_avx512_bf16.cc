// AVX-512 with BF16 and VNNI dot products: what multiplies bf16 pairs differs from the AVX-512
// table, the rest is taken from it.
#include "cpu/kernels.h"
#include "cpu/vec/avx512.h"

namespace erne::cpu {
namespace {

#include "cpu/kernels/attention.inc"
#include "cpu/kernels/linear.inc"
#include "cpu/kernels/peak.inc"

Kernels make_table() {
  Kernels table = *avx512_kernels();
  table.name = "avx512_bf16";
  table.linear_bf16 = linear_kernel<StepBf16Dot>();
  table.attend_bf16 = attend_chunk<StepBf16Dot>;
  table.peak_bf16 = kPeakBf16;
  table.peak_int8 = kPeakInt8;
  return table;
}

}  // namespace

const Kernels* avx512_bf16_kernels() {
  static const Kernels table = make_table();
  return &table;
}

}  // namespace erne::cpu
