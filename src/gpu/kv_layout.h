// The KV cache in device memory: all layers' elements, then all layers' scales (KvLayer in
// kernels/attention.h).
#pragma once

#include "device/device.h"
#include "gpu/kernels/attention.h"

namespace erne::gpu {

/// Bytes of one block over all layers. Throws Error{kUnsupported} for an odd head_dim, one above
/// kMostHeadDim, and element types that the kernels do not hold.
size_t block_bytes(const KvCacheSpec& spec);

/// Addresses of one layer; the cache's memory was made for num_blocks blocks of block_bytes.
KvLayer kv_layer(const KvCache& cache, int layer);

}  // namespace erne::gpu
