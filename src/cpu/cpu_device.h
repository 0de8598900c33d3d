// The CPU as a Device: splits every operation over the pool's threads and calls the kernels of one
// instruction set.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "cpu/isa.h"
#include "device/device.h"

namespace erne {

/// How threads and memory go together on machines with several memory nodes.
enum class NumaPolicy : uint8_t {
  kAuto,  ///< kBind where there are several nodes and threads for every core, else kOff
  kOff,   ///< threads run where the system puts them, and so does memory
  /// Threads stay on their cores; a weight's rows lie in the memory of the node whose threads read
  /// them, the KV cache in all nodes by turns.
  kBind,
  kInterleave,  ///< threads stay on their cores; all memory lies in all nodes by turns
};

/// num_threads 0 means every core that the process may use, each once however many hardware threads
/// it has. Throws Error{kInvalidArgument} for kInterleave on a machine with one node. isa: "" for
/// the best one ($ERNE_ISA overrides), or a name of available_isas(). Throws Error for an ISA that
/// this machine cannot run.
std::unique_ptr<Device> make_cpu_device(int num_threads, std::string_view isa = "",
                                        NumaPolicy numa = NumaPolicy::kOff);

}  // namespace erne
