// A libcuda.so.1 that answers as far as the CUDA runtime asks before it gives up: what the messages
// for a missing or old driver, no device and a wrong index are tested with. Never a device.
//
// STUB_CUDA_VERSION: what cuDriverGetVersion says (13000: CUDA 13.0); STUB_CUDA_DEVICES: how many
// devices there are.
#include <cstdlib>
#include <cstring>

namespace {

constexpr int kSuccess = 0;
constexpr int kNotFound = 500;
constexpr int kNoDevice = 100;

int number(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::atoi(text);
}

}  // namespace

extern "C" {

int cuInit(unsigned) { return number("STUB_CUDA_DEVICES", 0) > 0 ? kSuccess : kNoDevice; }

int cuDriverGetVersion(int* version) {
  *version = number("STUB_CUDA_VERSION", 13000);
  return kSuccess;
}

int cuDeviceGetCount(int* count) {
  *count = number("STUB_CUDA_DEVICES", 0);
  return kSuccess;
}

// Everything that is not here does not exist.
int cuGetProcAddress_v2(const char* name, void** function, int, unsigned long long, int* result) {
  *function = nullptr;
  if (std::strcmp(name, "cuInit") == 0) *function = reinterpret_cast<void*>(&cuInit);
  if (std::strcmp(name, "cuDriverGetVersion") == 0)
    *function = reinterpret_cast<void*>(&cuDriverGetVersion);
  if (std::strcmp(name, "cuDeviceGetCount") == 0)
    *function = reinterpret_cast<void*>(&cuDeviceGetCount);
  if (std::strcmp(name, "cuGetProcAddress") == 0)
    *function = reinterpret_cast<void*>(&cuGetProcAddress_v2);
  if (result != nullptr) *result = *function == nullptr ? 1 : 0;  // 1: symbol not found
  return *function == nullptr ? kNotFound : kSuccess;
}

int cuGetProcAddress(const char* name, void** function, int version, unsigned long long flags) {
  return cuGetProcAddress_v2(name, function, version, flags, nullptr);
}
}
