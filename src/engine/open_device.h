// From a device's name to the device.
#pragma once

#include <memory>
#include <string>

#include "cpu/cpu_device.h"
#include "device/device.h"

namespace erne {

/// "cpu", "cuda" (the first GPU) or "cuda:N". `threads`: of the CPU, or of the host that serves a
/// GPU; 0 takes all cores. Throws Error{kInvalidArgument} for other names, and as the devices do.
/// `numa` is the CPU's: a GPU takes kAuto and kOff alone.
std::unique_ptr<Device> open_device(const std::string& name, int threads,
                                    NumaPolicy numa = NumaPolicy::kOff);

/// Whether open_device() knows such a name.
bool names_device(const std::string& name);

}  // namespace erne
