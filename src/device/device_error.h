// A device that is lost: apart from Error, because nothing that this process does with the device
// can succeed any more.
#pragma once

#include <utility>

#include "base/error.h"

namespace erne {

/// Thrown by operations and copies of an open device. Not for a lack of memory, which is an
/// Error{kOutOfMemory} and passes.
class DeviceError : public Error {
 public:
  explicit DeviceError(std::string message) : Error(Code::kInternal, std::move(message)) {}
};

}  // namespace erne
