#include "gpu/rt/faults.h"

#include "base/progress.h"
#include "device/device_error.h"

namespace erne::gpu {

void device_failed(std::string_view what, std::string_view why) {
  throw DeviceError(fmt::format(
      "the GPU failed ({}: {}); it is lost for this process, which must end", what, why));
}

void device_is_full(size_t bytes, uint64_t free_bytes) {
  fail(Code::kOutOfMemory,
       "the GPU cannot allocate {}, {} of it are free; lower --mem-fraction-static, "
       "--max-total-tokens or --chunked-prefill-size, or choose a --quantization",
       human_bytes(bytes), human_bytes(free_bytes));
}

}  // namespace erne::gpu
