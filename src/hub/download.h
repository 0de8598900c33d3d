// A repository's files from the hub into the Hugging Face cache: listed at one commit, fetched side
// by side, continued where an earlier attempt stopped, and given their final name only once size
// and digest are right.
#pragma once

#include <filesystem>
#include <string>

#include "hub/settings.h"

namespace erne {

struct RepoRequest {
  std::string repo;       ///< passes is_repo_id
  std::string revision;   ///< passes is_revision
  std::string looked_in;  ///< where it was searched before, for messages
  bool show_progress = true;
};

/// Returns the snapshot folder, complete. Throws Error{kNotFound} for a repository, revision or
/// right that is not there, Error{kUnsupported} for one without safetensors, Error{kIo} for a
/// network or disk that fails, Error{kCorrupt} for contents that stay wrong.
std::filesystem::path download_model(const RepoRequest& request, const HubSettings& settings);

}  // namespace erne
