// The device under test is the first GPU; without one the tests are skipped, which ctest is told by
// the status 77.
#include <gtest/gtest.h>

#include <cstdio>

#include "base/error.h"
#include "device/backend.h"
#include "gpu/test_device.h"

namespace erne::test {

std::unique_ptr<Device> make_test_device() {
  return open_backend("cuda", 0, 1, "build it with -DERNE_CUDA=ON");
}

void for_each_schedule(const std::function<void()>& body) { body(); }

double f32_bound() { return 5e-5; }

}  // namespace erne::test

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  try {
    std::printf("device: %s\n", erne::test::make_test_device()->info().detail.c_str());
  } catch (const erne::Error& e) {
    std::printf("skipped: %s\n", e.what());
    return 77;
  }
  return RUN_ALL_TESTS();
}
