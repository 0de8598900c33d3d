// Which kernel tables this processor can run. An extension counts only when the operating system
// saves its registers too.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cpu/kernels.h"

namespace erne {

/// Names of the tables that this machine can run, slowest first: a subsequence of "generic",
/// "avx2", "avx512", "avx512_bf16", "amx".
std::vector<std::string> available_isas();

namespace cpu {

/// The table called `isa`; empty takes $ERNE_ISA if set, else the best one. Throws
/// Error{kInvalidArgument} for an unknown name and Error{kUnsupported} for one that this machine
/// cannot run; both list what it can.
const Kernels& select_kernels(std::string_view isa);

/// "AMD EPYC-Turin", or the architecture's name where the processor does not tell.
std::string processor_name();

}  // namespace cpu
}  // namespace erne
