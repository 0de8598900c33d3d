// AVX-512 with BF16 and VNNI dot products: what multiplies bf16 pairs differs from the AVX-512
// table, the rest is taken from it.
#include "cpu/kernels.h"
#include "cpu/vec/avx512.h"

namespace erne::cpu {
namespace {

#include "cpu/kernels/attention.inc"
#include "cpu/kernels/attention_int8.inc"
#include "cpu/kernels/code_ccq.inc"
#include "cpu/kernels/code_fp8.inc"
#include "cpu/kernels/code_linear.inc"
#include "cpu/kernels/code_row8.inc"
#include "cpu/kernels/linear.inc"
#include "cpu/kernels/peak.inc"

Kernels make_table() {
  Kernels table = *avx512_kernels();
  table.name = "avx512_bf16";
  table.linear_bf16 = linear_kernel<StepBf16Dot>();
  table.linear_codes[0][0] = code_kernel<StepBytes<2>, Int8Codes, kMostFull>();
  table.linear_codes[0][1] = code_kernel<StepBytes<1>, Int8Codes, kMostInt8>();
  table.linear_codes[1][0] = code_kernel<StepBytes<2>, Int4Codes, kMostFull>();
  table.linear_codes[1][1] = code_kernel<StepBytes<1>, Int4Codes, kMostInt8>();
  table.linear_codes[2][0] = fp8_kernel<StepBf16Dot>();
  table.linear_codes[2][1] = fp8_kernel<StepBf16Dot>();
  table.linear_codes[0][2] = row8_kernel<StepBytes<1>, Int8Codes>();
  table.linear_codes[1][2] = row8_kernel<StepBytes<1>, Int4Codes>();
  table.linear_codes[2][2] = table.linear_codes[2][1];
  table.linear_codes[3][0] = ccq_kernel<StepBytes<2>, Ccq25Codes, kMostFull>();
  table.linear_codes[3][1] = ccq_kernel<StepBytes<1>, Ccq25Codes, kMostInt8>();
  table.linear_codes[3][2] = table.linear_codes[3][1];
  table.linear_codes[4][0] = ccq_kernel<StepBytes<2>, Ccq2Codes, kMostFull>();
  table.linear_codes[4][1] = ccq_kernel<StepBytes<1>, Ccq2Codes, kMostInt8>();
  table.linear_codes[4][2] = table.linear_codes[4][1];
  table.attend_bf16 = attend_chunk<StepBf16Dot>;
  table.attend_int8 = attend_int8<StepBytes<2>>;
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
