// How large the KV pool may be: what the machine has left once the weights are packed (spec
// serving.md 1.3).
#pragma once

#include <cstdint>

#include "engine/engine.h"

namespace erne {

/// Bytes this process may still use: MemAvailable and, if lower, what cgroup v2 or v1 leaves it.
uint64_t available_memory_bytes();

/// Pool size in tokens, whole pages. options.max_total_tokens if set, else what fits into
/// mem_fraction_static of `free_bytes` less `workspace_bytes`, at most what max_running_requests
/// contexts could use, and at most a third of the machine (but 8 GiB if there is room): an answer
/// on a laptop should not take the laptop. Throws Error{kOutOfMemory} with bytes needed, bytes free
/// and the flags that help. Warns if one context does not fit.
int64_t plan_pool_tokens(const EngineOptions& options, uint64_t block_bytes, uint64_t free_bytes,
                         uint64_t workspace_bytes);

}  // namespace erne
