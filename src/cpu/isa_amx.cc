// No AMX table yet: the next lower one serves such processors.
#include "cpu/kernels.h"

namespace erne::cpu {

const Kernels* amx_kernels() { return nullptr; }

}  // namespace erne::cpu
