// What both runtimes say when a device fails.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace erne::gpu {

/// Throws DeviceError: `what` did not succeed, and why in the driver's words.
[[noreturn]] void device_failed(std::string_view what, std::string_view why);

/// Throws Error{kOutOfMemory} that names what was asked, what is free, and the flags that help.
[[noreturn]] void device_is_full(size_t bytes, uint64_t free_bytes);

}  // namespace erne::gpu
