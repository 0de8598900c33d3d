// The AVX-512 (F, BW, DQ, VL) table.
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
#include "cpu/kernels/hadamard.inc"
#include "cpu/kernels/linear.inc"
#include "cpu/kernels/peak.inc"
#include "cpu/kernels/rows.inc"

constexpr Kernels kTable = {
    .name = "avx512",
    .linear_f32 = linear_kernel<StepF32>(),
    .linear_bf16 = linear_kernel<StepBf16Widen>(),
    .linear_codes =
        {{code_kernel<StepHalves, Int8Codes, kMostFull>(),
          code_kernel<StepHalves, Int8Codes, kMostInt8>(), row8_kernel<StepHalves, Int8Codes>()},
         {code_kernel<StepHalves, Int4Codes, kMostFull>(),
          code_kernel<StepHalves, Int4Codes, kMostInt8>(), row8_kernel<StepHalves, Int4Codes>()},
         {fp8_kernel<StepBf16Widen>(), fp8_kernel<StepBf16Widen>(), fp8_kernel<StepBf16Widen>()},
         {ccq_kernel<StepHalves, Ccq25Codes, kMostFull>(),
          ccq_kernel<StepHalves, Ccq25Codes, kMostInt8>(),
          ccq_kernel<StepHalves, Ccq25Codes, kMostInt8>()},
         {ccq_kernel<StepHalves, Ccq2Codes, kMostFull>(),
          ccq_kernel<StepHalves, Ccq2Codes, kMostInt8>(),
          ccq_kernel<StepHalves, Ccq2Codes, kMostInt8>()}},
    .hadamard = hadamard,
    .rms_norm = rms_norm,
    .rotate = rotate,
    .attention_rows = kBlockRows,
    .attention_scratch_bytes = attention_scratch,
    .attend_f32 = attend_chunk<StepF32>,
    .attend_mixed = attend_chunk<StepFloatByBf16>,
    .attend_bf16 = attend_chunk<StepBf16Widen>,
    .attend_int8 = attend_int8<StepHalves>,
    .merge = merge,
    .finish_row = finish_row,
    .dot_rows = dot_rows,
    .combine = combine,
    .peak_f32 = kPeakF32,
    .peak_bf16 = {},
    .peak_int8 = {},
    .read_all = read_all,
};

}  // namespace

const Kernels* avx512_kernels() { return &kTable; }

}  // namespace erne::cpu
