// The standard Hugging Face cache, as huggingface_hub reads and writes it, so that each finds what
// the other fetched:
//   models--org--name/refs/main                      the commit a branch or tag stood at
//   models--org--name/snapshots/<commit>/config.json  -> ../../blobs/<digest>
//   models--org--name/blobs/<digest>                 contents; <digest>.incomplete while they
//   arrive .locks/models--org--name/<digest>.lock           held (flock) by whoever writes that
//   blob
#pragma once

#include <atomic>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace erne {

/// Holds flock(2) on a file, waiting for another process to let go. Throws Error{kIo}; returns
/// without the lock when `stop` becomes true or where the file system has no locks.
class FileLock {
 public:
  FileLock(const std::filesystem::path& path, const std::atomic<bool>* stop);
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;
  ~FileLock();

 private:
  int fd_ = -1;
};

class RepoCache {
 public:
  /// `repo` passes is_repo_id.
  RepoCache(const std::filesystem::path& cache, std::string_view repo);

  const std::filesystem::path& folder() const { return folder_; }
  std::filesystem::path snapshot(std::string_view commit) const {
    return folder_ / "snapshots" / commit;
  }
  std::filesystem::path blob(std::string_view digest) const { return folder_ / "blobs" / digest; }
  std::filesystem::path incomplete(std::string_view digest) const;
  std::filesystem::path lock(std::string_view digest) const;

  /// The commit that `revision` stands for here: itself, or what refs/ says.
  std::optional<std::string> commit_of(std::string_view revision) const;
  void write_ref(std::string_view revision, std::string_view commit) const;
  /// Puts the blob under its name into the snapshot.
  void link(std::string_view commit, std::string_view path, std::string_view digest) const;

 private:
  std::filesystem::path folder_;
  std::filesystem::path locks_;
};

/// What a model folder lacks to be loaded as a text model ("tokenizer.json or tokenizer.model");
/// nothing if complete.
std::optional<std::string> missing_file(const std::filesystem::path& folder);

}  // namespace erne
