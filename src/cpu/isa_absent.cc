// Tables that a build for another processor family does not have.
#include "cpu/kernels.h"

namespace erne::cpu {

const Kernels* avx2_kernels() { return nullptr; }
const Kernels* avx512_kernels() { return nullptr; }
const Kernels* avx512_bf16_kernels() { return nullptr; }
const Kernels* amx_kernels() { return nullptr; }
bool amx_multiplies() { return false; }
Kernels scalar_tile_kernels() { return {}; }

}  // namespace erne::cpu
