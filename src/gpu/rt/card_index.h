// N of `--device cuda:N`.
#pragma once

namespace erne::gpu {

/// Throws Error{kInvalidArgument} that names the devices there are, unless 0 <= index < count.
void check_index(int index, int count);

}  // namespace erne::gpu
