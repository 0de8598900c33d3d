// Cutting a model's tensors into safetensors files, and the index that names them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"

namespace erne {

/// Tensors [begin, end) of one file.
struct Shard {
  size_t begin;
  size_t end;
};

/// Files of at most max_bytes (a single larger tensor gets one of its own), in order.
std::vector<Shard> cut_shards(std::span<const uint64_t> tensor_bytes, uint64_t max_bytes);

/// "model.safetensors", or "model-00002-of-00007.safetensors" (index counts from 0).
std::string shard_name(size_t index, size_t count);

/// model.safetensors.index.json: tensor name -> file name.
void write_shard_index(const std::filesystem::path& folder, const OrderedJson& weight_map,
                       uint64_t total_bytes);

/// Throws Error{kIo} where the disk of `folder` has less than `needed` bytes free.
void check_free_space(const std::filesystem::path& folder, uint64_t needed);

}  // namespace erne
