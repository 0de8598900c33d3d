// What every operation is given besides its tensors: where it runs and where its results live.
#pragma once

#include "device/device.h"
#include "tensor/arena.h"

namespace erne {

struct Ctx {
  Device& device;
  Arena& arena;  ///< results of this step; the caller resets it between steps
};

}  // namespace erne
