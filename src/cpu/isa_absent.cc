// Tables that this build does not have: ISA files of another processor family.
#include "cpu/kernels.h"

namespace erne::cpu {

const Kernels* avx2_kernels() { return nullptr; }
const Kernels* avx512_kernels() { return nullptr; }
const Kernels* avx512_bf16_kernels() { return nullptr; }
const Kernels* amx_kernels() { return nullptr; }

}  // namespace erne::cpu
