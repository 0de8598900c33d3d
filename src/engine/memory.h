// What the model takes and what it leaves: whether the weights fit before they are packed, and how
// large the KV pool may be afterwards (spec serving.md 1.3).
#pragma once

#include <cstdint>
#include <filesystem>

#include "engine/engine.h"
#include "tensor/dtype.h"

namespace erne {

class Device;

/// Whose memory weights and pool take.
enum class PoolSharing {
  kHostMemory,  ///< other programs' too
  kOwnMemory,   ///< a GPU's
};

/// What the process's cgroup (v2 or v1) and all above it leave, page cache counted as free; the
/// largest value without a limit. `root`: where /proc and /sys are, "/" but in tests.
uint64_t cgroup_free_bytes(const std::filesystem::path& root);

/// Bytes this process may still use: MemAvailable and, if lower, what its cgroups leave it.
uint64_t available_memory_bytes();

/// Bytes that weights, KV pool and workspace on `device` may use: of its own memory, or the above.
uint64_t available_memory_bytes(const Device& device);

PoolSharing pool_sharing(const Device& device);

/// Throws Error{kOutOfMemory} if weights of `weight_bytes` and the least workspace do not fit into
/// `free_bytes`, with both figures and what to change.
void check_weights_fit(uint64_t weight_bytes, uint64_t free_bytes, DType dtype,
                       PoolSharing sharing = PoolSharing::kHostMemory);

/// Pool size in tokens, whole pages. options.max_total_tokens if set, else what fits into
/// mem_fraction_static of `free_bytes` less `workspace_bytes`, at most what max_running_requests
/// contexts could use, and of the host's memory at most a third (but 8 GiB if there is room): an
/// answer on a laptop should not take the laptop. Throws Error{kOutOfMemory} with bytes needed,
/// bytes free and the flags that help. Warns if one context does not fit.
int64_t plan_pool_tokens(const EngineOptions& options, uint64_t block_bytes, uint64_t free_bytes,
                         uint64_t workspace_bytes, PoolSharing sharing = PoolSharing::kHostMemory);

}  // namespace erne
