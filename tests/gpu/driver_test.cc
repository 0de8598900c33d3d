// What `--device cuda` says on machines that have no card for it. The CUDA runtime looks for its
// driver once a process, so each case is a process of its own that meets a stub (stub_driver.cc).
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "base/error.h"
#include "device/backend.h"

namespace erne {
namespace {

/// Opens device `index` and prints what it says; ends the process with 0 if `code` is thrown.
[[noreturn]] void open_and_exit(const char* version, const char* devices, int index, Code code) {
  ::setenv("STUB_CUDA_VERSION", version, 1);
  ::setenv("STUB_CUDA_DEVICES", devices, 1);
  try {
    open_backend("cuda", index, 1, "");
    std::fprintf(stderr, "a device was opened\n");
    std::_Exit(1);
  } catch (const Error& e) {
    std::fprintf(stderr, "%s\n", e.what());
    std::_Exit(e.code() == code ? 0 : 2);
  }
}

bool stub_is_loaded() {
  const char* path = std::getenv("LD_LIBRARY_PATH");
  return path != nullptr && std::string(path).find(STUB_DRIVER_DIR) != std::string::npos;
}

TEST(CudaDriver, TooOldIsNamedWithBothVersions) {
  ASSERT_TRUE(stub_is_loaded());
  EXPECT_EXIT(
      open_and_exit("12040", "1", 0, Code::kUnavailable), testing::ExitedWithCode(0),
      "driver is too old: it knows CUDA up to 12.4, this program needs 13.*update the driver");
}

TEST(CudaDriver, NoDeviceIsNamed) {
  ASSERT_TRUE(stub_is_loaded());
  EXPECT_EXIT(open_and_exit("13000", "0", 0, Code::kUnavailable), testing::ExitedWithCode(0),
              "the driver finds no device.*use --device cpu");
}

}  // namespace
}  // namespace erne
