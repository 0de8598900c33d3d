#include "gpu/rt/card_index.h"

#include <string>

#include "base/error.h"

namespace erne::gpu {

void check_index(int index, int count) {
  if (index >= 0 && index < count) return;
  const std::string there =
      count == 1 ? "there is 1 device here, cuda:0"
                 : fmt::format("there are {} devices here, cuda:0 to cuda:{}", count, count - 1);
  fail(Code::kInvalidArgument, "--device cuda:{}: {}", index, there);
}

}  // namespace erne::gpu
