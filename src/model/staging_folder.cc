#include "model/staging_folder.h"

#include <unistd.h>

#include <array>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "model/config_keys.h"

namespace erne {

namespace fs = std::filesystem;

StagingFolder::StagingFolder(fs::path target, bool force, Unfinished unfinished)
    : target_(std::move(target)), force_(force), unfinished_(unfinished) {
  if (target_.filename().empty()) target_ = target_.parent_path();  // "models/default/"
  check_target();
  staging_ = target_;
  staging_ += unfinished == Unfinished::kKeep ? ".partial" : fmt::format(".tmp-{}", ::getpid());
  std::error_code error;
  if (target_.has_parent_path()) fs::create_directories(target_.parent_path(), error);
  if (!error) fs::create_directory(staging_, error);
  if (error) fail(Code::kIo, "cannot create {}: {}", staging_.string(), error.message());
}

StagingFolder::~StagingFolder() {
  std::error_code ignored;
  if (!committed_ && unfinished_ == Unfinished::kRemove) fs::remove_all(staging_, ignored);
}

void StagingFolder::commit() {
  std::error_code error;
  fs::path old = target_;
  old += fmt::format(".old-{}", ::getpid());
  const bool replaces = is_present(target_);
  if (replaces) fs::rename(target_, old, error);
  if (!error) fs::rename(staging_, target_, error);
  if (error) {
    std::error_code ignored;
    if (replaces && !is_present(target_)) fs::rename(old, target_, ignored);
    fail(Code::kIo, "cannot rename {} to {}: {}", staging_.string(), target_.string(),
         error.message());
  }
  committed_ = true;
  if (replaces) fs::remove_all(old, error);
  if (error) fail(Code::kIo, "cannot remove {}: {}", old.string(), error.message());
}

void StagingFolder::check_target() const {
  if (!is_present(target_)) return;
  std::error_code error;
  if (!fs::is_directory(target_, error)) {
    fail(Code::kInvalidArgument, "{} exists and is not a folder", target_.string());
  }
  if (fs::is_empty(target_, error)) return;
  if (!force_) {
    fail(Code::kConflict, "{} is not empty; name another folder or pass --force", target_.string());
  }
  if (!is_present(target_ / "config.json")) {
    fail(Code::kConflict,
         "{} is not empty and holds no config.json: --force replaces model folders only",
         target_.string());
  }
}

void copy_companions(const fs::path& from, const fs::path& to) {
  constexpr std::array<const char*, 9> kNames{
      "generation_config.json", "tokenizer.json",          "tokenizer.model",
      "tokenizer_config.json",  "special_tokens_map.json", "added_tokens.json",
      "chat_template.jinja",    "chat_template.json",      "LICENSE"};
  for (const char* name : kNames) {
    std::error_code absent;
    if (fs::is_regular_file(from / name, absent)) write_file(to / name, read_file(from / name));
  }
}

}  // namespace erne
