// A folder that appears whole or not at all: written under another name beside its place, then
// renamed.
#pragma once

#include <filesystem>

namespace erne {

class StagingFolder {
 public:
  /// What happens to the files when commit() is not reached.
  enum class Unfinished {
    kRemove,  ///< they go; the name is one of its own
    kKeep,    ///< they stay under TARGET.partial, where the next run finds them
  };

  /// Throws Error{kConflict} for a target that is not empty, unless `force` is set and it holds a
  /// model; Error{kInvalidArgument} where it is no folder; Error{kIo}.
  StagingFolder(std::filesystem::path target, bool force,
                Unfinished unfinished = Unfinished::kRemove);
  StagingFolder(const StagingFolder&) = delete;
  StagingFolder& operator=(const StagingFolder&) = delete;
  ~StagingFolder();

  const std::filesystem::path& path() const { return staging_; }
  /// Replaces the target. Throws Error{kIo}; the old target is then still there.
  void commit();

 private:
  void check_target() const;

  std::filesystem::path target_;
  std::filesystem::path staging_;
  bool force_;
  Unfinished unfinished_;
  bool committed_ = false;
};

/// Copies what stands beside the weights of a model folder, where it is there: tokenizer, chat
/// template, generation_config.json, licence; not config.json.
void copy_companions(const std::filesystem::path& from, const std::filesystem::path& to);

}  // namespace erne
