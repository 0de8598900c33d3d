#include "model/shards.h"

#include <system_error>

#include "base/error.h"
#include "base/file.h"
#include "base/progress.h"

namespace erne {

namespace fs = std::filesystem;

std::vector<Shard> cut_shards(std::span<const uint64_t> tensor_bytes, uint64_t max_bytes) {
  std::vector<Shard> shards(1, {0, 0});
  uint64_t bytes = 0;
  for (size_t i = 0; i < tensor_bytes.size(); ++i) {
    if (shards.back().end > shards.back().begin && bytes + tensor_bytes[i] > max_bytes) {
      shards.push_back({i, i});
      bytes = 0;
    }
    shards.back().end = i + 1;
    bytes += tensor_bytes[i];
  }
  return shards;
}

std::string shard_name(size_t index, size_t count) {
  return count == 1 ? "model.safetensors"
                    : fmt::format("model-{:05}-of-{:05}.safetensors", index + 1, count);
}

void write_shard_index(const fs::path& folder, const OrderedJson& weight_map,
                       uint64_t total_bytes) {
  const OrderedJson index = {{"metadata", {{"total_size", total_bytes}}},
                             {"weight_map", weight_map}};
  write_file(folder / "model.safetensors.index.json", index.dump(2) + "\n");
}

void check_free_space(const fs::path& folder, uint64_t needed) {
  std::error_code error;
  const fs::space_info space = fs::space(folder, error);
  if (error || space.available >= needed) return;
  fail(Code::kIo, "{} has {} free, the weights need {}", folder.string(),
       human_bytes(space.available), human_bytes(needed));
}

}  // namespace erne
