// The CPU as a Device: splits every operation over the pool's threads and calls the kernels of one
// instruction set.
#pragma once

#include <memory>
#include <string_view>

#include "cpu/isa.h"
#include "device/device.h"

namespace erne {

/// num_threads 0 means every core that the process may use. isa: "" for the best one ($ERNE_ISA
/// overrides), or a name of available_isas(). Throws Error for an ISA that this machine cannot run.
std::unique_ptr<Device> make_cpu_device(int num_threads, std::string_view isa = "");

}  // namespace erne
