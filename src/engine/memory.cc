#include "engine/memory.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/log.h"
#include "base/progress.h"
#include "device/device.h"

namespace erne {
namespace {

// Beside the weights: tokenizer, code, threads, and a step of a few tokens.
constexpr uint64_t kLeastWorkspace = uint64_t{64} << 20;
constexpr uint64_t kUnlimited = std::numeric_limits<uint64_t>::max();
constexpr uint64_t kGenerousPool = uint64_t{8} << 30;
// Block ids are int32 and so are positions in a block table; the hash runner and kernels index with
// 64 bits.
constexpr uint64_t kMaxBlocks = uint64_t{1} << 30;

namespace fs = std::filesystem;

// How the two versions of the memory controller name their files.
struct CgroupFiles {
  const char *limit, *usage, *inactive_cache, *active_cache;
};
constexpr CgroupFiles kV2 = {"memory.max", "memory.current", "inactive_file", "active_file"};
constexpr CgroupFiles kV1 = {"memory.limit_in_bytes", "memory.usage_in_bytes",
                             "total_inactive_file", "total_active_file"};

std::optional<uint64_t> read_number(const fs::path& path) {
  std::ifstream file(path);
  uint64_t value = 0;
  if (file >> value) return value;
  return std::nullopt;  // absent, or "max"
}

// Page cache that the kernel gives back before it kills: usage counts it.
uint64_t reclaimable(const fs::path& group, const CgroupFiles& files) {
  std::ifstream file(group / "memory.stat");
  uint64_t bytes = 0;
  std::string key;
  uint64_t value = 0;
  while (file >> key >> value) {
    if (key == files.inactive_cache || key == files.active_cache) bytes += value;
  }
  return bytes;
}

uint64_t free_in_group(const fs::path& group, const CgroupFiles& files) {
  const auto limit = read_number(group / files.limit);
  const auto usage = read_number(group / files.usage);
  if (!limit || !usage) return kUnlimited;
  const uint64_t used = *usage - std::min(*usage, reclaimable(group, files));
  return *limit > used ? *limit - used : 0;
}

// The least of the group `path` below `mount` and all above it. A path from outside a container's
// view has no folders here: its mount shows the own group as the root.
uint64_t free_up_to_root(const fs::path& mount, const std::string& path, const CgroupFiles& files) {
  uint64_t bytes = free_in_group(mount, files);
  fs::path group = mount;
  for (const fs::path& name : fs::path(path).relative_path()) {
    if (name == "..") return bytes;
    group /= name;
    bytes = std::min(bytes, free_in_group(group, files));
  }
  return bytes;
}

bool names_memory(std::string_view controllers) {
  return ("," + std::string(controllers) + ",").find(",memory,") != std::string::npos;
}

uint64_t mem_available() {
  std::ifstream file("/proc/meminfo");
  std::string key;
  uint64_t kib = 0;
  std::string unit;
  while (file >> key >> kib >> unit) {
    if (key == "MemAvailable:") return kib * 1024;
  }
  return kUnlimited;
}

}  // namespace

uint64_t cgroup_free_bytes(const fs::path& root) {
  const fs::path mount = root / "sys/fs/cgroup";
  uint64_t bytes = std::min(free_in_group(mount, kV2), free_in_group(mount / "memory", kV1));
  std::ifstream groups(root / "proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {  // "id:controllers:path"
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (controllers.empty()) bytes = std::min(bytes, free_up_to_root(mount, path, kV2));
    if (names_memory(controllers))
      bytes = std::min(bytes, free_up_to_root(mount / "memory", path, kV1));
  }
  return bytes;
}

uint64_t available_memory_bytes() { return std::min(mem_available(), cgroup_free_bytes("/")); }

uint64_t available_memory_bytes(const Device& device) {
  const std::optional<uint64_t> own = device.own_free_bytes();
  return own ? *own : available_memory_bytes();
}

PoolSharing pool_sharing(const Device& device) {
  return device.own_free_bytes() ? PoolSharing::kOwnMemory : PoolSharing::kHostMemory;
}

void check_weights_fit(uint64_t weight_bytes, uint64_t free_bytes, DType dtype,
                       PoolSharing sharing) {
  if (free_bytes >= kLeastWorkspace && weight_bytes <= free_bytes - kLeastWorkspace) return;
  if (sharing == PoolSharing::kOwnMemory) {
    fail(
        Code::kOutOfMemory,
        "the weights need {} in {} and at least {} of workspace, but {} of the GPU are free; use "
        "--quantization fp8, wint8 or wint4, a smaller model, another device (--device cuda:N), or "
        "end what else runs on it",
        human_bytes(weight_bytes), dtype_name(dtype), human_bytes(kLeastWorkspace),
        human_bytes(free_bytes));
  }
  fail(Code::kOutOfMemory,
       "the weights need {} in {} and at least {} of workspace, but {} are free; {}",
       human_bytes(weight_bytes), dtype_name(dtype), human_bytes(kLeastWorkspace),
       human_bytes(free_bytes),
       dtype == DType::kF32 ? "use --dtype bfloat16 (half the size), a smaller model, or a machine "
                              "with more memory"
                            : "use a smaller model or a machine with more memory");
}

int64_t plan_pool_tokens(const EngineOptions& options, uint64_t block_bytes, uint64_t free_bytes,
                         uint64_t workspace_bytes, PoolSharing sharing) {
  const auto page = static_cast<uint64_t>(options.page_size);
  const auto context = static_cast<uint64_t>(options.context_length.value());
  uint64_t blocks = 0;
  if (options.max_total_tokens) {
    blocks = std::min(static_cast<uint64_t>(*options.max_total_tokens) / page, kMaxBlocks);
    if (blocks == 0) {
      fail(Code::kInvalidArgument,
           "max_total_tokens must be at least one page of {} tokens, got {}", page,
           *options.max_total_tokens);
    }
    if (blocks * block_bytes > free_bytes) {
      fail(Code::kOutOfMemory,
           "a KV pool of {} tokens needs {}, but {} are free; lower --max-total-tokens",
           blocks * page, human_bytes(blocks * block_bytes), human_bytes(free_bytes));
    }
  } else {
    const auto budget =
        static_cast<uint64_t>(static_cast<double>(free_bytes) * options.mem_fraction_static);
    const uint64_t left = budget > workspace_bytes ? budget - workspace_bytes : 0;
    const uint64_t polite =
        sharing == PoolSharing::kOwnMemory ? left : std::max(free_bytes / 3, kGenerousPool);
    const uint64_t useful =
        static_cast<uint64_t>(options.max_running_requests) * ((context + page - 1) / page);
    blocks = std::min({std::min(left, polite) / block_bytes, useful, kMaxBlocks});
    if (blocks == 0) {
      fail(Code::kOutOfMemory,
           "no room for the KV pool: one page of {} tokens needs {}, the workspace of a step {}, "
           "and {} of {} free bytes may be "
           "used; lower --chunked-prefill-size or --max-running-requests, raise "
           "--mem-fraction-static ({}), or use a smaller model",
           page, human_bytes(block_bytes), human_bytes(workspace_bytes), human_bytes(budget),
           human_bytes(free_bytes), options.mem_fraction_static);
    }
  }
  if (blocks * page < context) {
    log::warn("the KV pool holds {} tokens, less than one context of {}: longer requests end early",
              blocks * page, context);
  }
  return static_cast<int64_t>(blocks * page);
}

}  // namespace erne
