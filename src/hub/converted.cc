#include "hub/converted.h"

#include <string>
#include <system_error>

#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"
#include "hub/repo_cache.h"

namespace erne {
namespace {

namespace fs = std::filesystem;

// Raised when the converter writes something else, so that folders of an older program are not
// taken for its own.
constexpr int kConversion = 2;

// Hashing a model's content would take longer than starting it: what a file system knows of it must
// do.
std::string key_of(const fs::path& gguf) {
  const auto changed = fs::last_write_time(gguf).time_since_epoch().count();
  const std::string identity = fmt::format("{}|{}|{}|{}", kConversion, fs::canonical(gguf).string(),
                                           fs::file_size(gguf), changed);
  const Hash128 hash = hash128(identity.data(), identity.size());
  return fmt::format("{}-{:016x}", gguf.stem().string(), hash.low);
}

fs::path convert_once(const fs::path& gguf, const fs::path& cache, const Converter& convert) {
  const fs::path folder = cache / "converted" / key_of(gguf);
  if (fs::is_directory(folder)) return folder;
  fs::create_directories(folder.parent_path());
  fs::path lock_file = folder;
  lock_file += ".lock";
  const FileLock lock(lock_file, nullptr);
  if (fs::is_directory(folder)) return folder;
  // What a process that was killed left; nobody else can be writing it while the lock is held.
  fs::path partial = folder;
  partial += ".partial";
  fs::remove_all(partial);
  log::info("converting {} to {} (once)", gguf.string(), folder.string());
  convert(gguf, partial);
  fs::rename(partial, folder);
  return folder;
}

}  // namespace

fs::path converted_folder(const fs::path& gguf, const fs::path& cache, const Converter& convert) {
  try {
    return convert_once(gguf, cache, convert);
  } catch (const fs::filesystem_error& e) {
    fail(Code::kIo,
         "cannot keep the conversion of {} in {}: {}. Set XDG_CACHE_HOME to a folder that you may "
         "write to",
         gguf.string(), cache.string(), e.what());
  }
}

}  // namespace erne
