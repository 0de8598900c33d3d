// From what a user types after --model-path to a folder on disk.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace erne {

struct HubOptions {
  std::optional<std::string> revision;                ///< default "main"
  std::optional<std::filesystem::path> download_dir;  ///< default: the Hugging Face cache
  bool show_progress = true;
};

/// A folder is returned as it is; a .gguf file is converted once into the cache; "org/name" is
/// looked up in the local Hugging Face cache, else downloaded over the hub's HTTP API (HF_ENDPOINT,
/// HF_TOKEN, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE). Throws Error{kNotFound} naming every place
/// that was looked in; Error{kIo, kCorrupt} for transfers.
std::filesystem::path resolve_model(const std::string& model, const HubOptions& options);

}  // namespace erne
