#include "engine/open_device.h"

#include <charconv>
#include <optional>
#include <string_view>

#include "base/error.h"
#include "device/backend.h"

namespace erne {
namespace {

constexpr const char* kCudaHint =
    "build it with -DERNE_CUDA=ON, which needs the CUDA 13 toolkit, or use --device cpu";

/// N of "cuda:N", 0 of "cuda"; nothing for other names.
std::optional<int> cuda_index(std::string_view name) {
  constexpr std::string_view kName = "cuda";
  if (name == kName) return 0;
  if (!name.starts_with("cuda:")) return std::nullopt;
  const std::string_view digits = name.substr(kName.size() + 1);
  int index = -1;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
  if (error != std::errc() || end != digits.data() + digits.size() || index < 0)
    return std::nullopt;
  return index;
}

}  // namespace

bool names_device(const std::string& name) { return name == "cpu" || cuda_index(name).has_value(); }

std::unique_ptr<Device> open_device(const std::string& name, int threads, NumaPolicy numa) {
  if (name == "cpu") return make_cpu_device(threads, "", numa);
  const std::optional<int> index = cuda_index(name);
  if (!index)
    fail(Code::kInvalidArgument, "the device must be cpu, cuda or cuda:N, got '{}'", name);
  if (numa == NumaPolicy::kBind || numa == NumaPolicy::kInterleave) {
    fail(Code::kInvalidArgument,
         "--numa bind and interleave are about a CPU's memory nodes, and the device is {}; leave "
         "the flag out",
         name);
  }
  return open_backend("cuda", *index, threads, kCudaHint);
}

}  // namespace erne
