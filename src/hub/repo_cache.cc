#include "hub/repo_cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "hub/listing.h"

namespace erne {

namespace fs = std::filesystem;

FileLock::FileLock(const fs::path& path, const std::atomic<bool>* stop) {
  fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd_ < 0)
    fail(Code::kIo, "cannot create the lock {}: {}", path.string(), std::strerror(errno));
  bool told = false;
  while (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
    if (errno == ENOLCK || errno == EOPNOTSUPP) {
      log::warn("{}: this file system has no locks; do not fetch the same model twice at once",
                path.string());
      return;
    }
    if (errno != EWOULDBLOCK && errno != EINTR) {
      const int cause = errno;
      ::close(fd_);
      fail(Code::kIo, "cannot lock {}: {}", path.string(), std::strerror(cause));
    }
    if (stop != nullptr && stop->load()) return;
    if (!told)
      log::info("waiting for another process that writes the same file ({})", path.string());
    told = true;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

FileLock::~FileLock() { ::close(fd_); }

RepoCache::RepoCache(const fs::path& cache, std::string_view repo) {
  std::string name = fmt::format("models--{}", repo);
  name.replace(name.find('/'), 1, "--");
  folder_ = cache / name;
  locks_ = cache / ".locks" / name;
}

fs::path RepoCache::incomplete(std::string_view digest) const {
  return blob(fmt::format("{}.incomplete", digest));
}

fs::path RepoCache::lock(std::string_view digest) const {
  return locks_ / fmt::format("{}.lock", digest);
}

std::optional<std::string> RepoCache::commit_of(std::string_view revision) const {
  if (is_commit(revision)) return std::string(revision);
  const fs::path ref = folder_ / "refs" / revision;
  if (!fs::is_regular_file(ref)) return std::nullopt;
  std::string commit = read_file(ref, 4096);
  while (!commit.empty() && (commit.back() == '\n' || commit.back() == ' ')) commit.pop_back();
  if (!is_commit(commit)) return std::nullopt;
  return commit;
}

void RepoCache::write_ref(std::string_view revision, std::string_view commit) const {
  if (is_commit(revision)) return;
  const fs::path ref = folder_ / "refs" / revision;
  fs::create_directories(ref.parent_path());
  write_file(ref, commit);
}

void RepoCache::link(std::string_view commit, std::string_view path,
                     std::string_view digest) const {
  const fs::path name = snapshot(commit) / path;
  fs::create_directories(name.parent_path());
  const fs::path target = fs::relative(blob(digest), name.parent_path());
  std::error_code absent;
  if (fs::read_symlink(name, absent) == target) return;
  // Beside and renamed over, so that a reader never meets a missing name.
  const fs::path fresh = temporary_beside(name);
  fs::remove(fresh);
  std::error_code no_links;
  fs::create_symlink(target, fresh, no_links);
  if (no_links) fs::copy_file(blob(digest), fresh);
  fs::rename(fresh, name);
}

std::optional<std::string> missing_file(const fs::path& folder) {
  if (!fs::exists(folder / "config.json")) return "config.json";
  if (!fs::exists(folder / "tokenizer.json") && !fs::exists(folder / "tokenizer.model")) {
    return "tokenizer.json or tokenizer.model";
  }
  if (fs::exists(folder / kSingleFile)) return std::nullopt;
  if (!fs::exists(folder / kIndexFile)) return fmt::format("{} or {}", kSingleFile, kIndexFile);
  for (const std::string& shard : parse_index(read_file(folder / kIndexFile))) {
    if (!fs::exists(folder / shard)) return shard;
  }
  return std::nullopt;
}

}  // namespace erne
