// Devices that are not part of the program: shared libraries beside it, loaded when they are asked
// for, so that one package runs with and without a GPU, its driver and its toolkit.
//
// liberne_NAME.so exports erne_backend_build(), which must be this program's own backend_build()
// (both sides share C++ types), and erne_backend_open(index, threads), which returns a Device or
// throws Error.
#pragma once

#include <memory>
#include <string>

#include "device/device.h"

namespace erne {

/// Program and backend belong together when theirs are equal: version, and the types they share.
const char* backend_build();

/// Opens device `index` of the backend liberne_`name`.so, which is looked for in $ERNE_BACKEND_DIR,
/// beside the program, and in ../lib/erne; `build_hint` says how it is built. `threads` of the host
/// serve the loading; 0: all cores. Throws Error{kUnsupported} if there is no such file or it is of
/// another build, and what the backend throws.
std::unique_ptr<Device> open_backend(const std::string& name, int index, int threads,
                                     const std::string& build_hint);

}  // namespace erne
