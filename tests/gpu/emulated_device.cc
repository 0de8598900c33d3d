#include "gpu/emulated/gpu_emulated.h"
#include "gpu/gpu_device.h"
#include "gpu/test_device.h"

namespace erne::test {

std::unique_ptr<Device> make_test_device() { return make_gpu_device(0, 1); }

void for_each_schedule(const std::function<void()>& body) {
  using gpu::emulated::Schedule;
  for (const Schedule schedule : {Schedule::kForward, Schedule::kBackward, Schedule::kShuffled}) {
    gpu::emulated::set_schedule(schedule);
    body();
  }
  gpu::emulated::set_schedule(Schedule::kForward);
}

double f32_bound() { return 5e-6; }

}  // namespace erne::test
