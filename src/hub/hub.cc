// The four things that --model-path may be, tried in this order: a folder, a file, a hub id in the
// cache, a hub id online.
#include "hub/hub.h"

#include "base/error.h"
#include "hub/converted.h"
#include "hub/download.h"
#include "hub/listing.h"
#include "hub/repo_cache.h"
#include "hub/settings.h"
#include "model/convert.h"
#include "tensor/gguf.h"

namespace erne {
namespace {

namespace fs = std::filesystem;

// The complete snapshot in the cache, or the sentence that says where it was looked for and what
// was missing.
std::optional<fs::path> find_in_cache(const RepoRequest& request, const HubSettings& settings,
                                      std::string& looked_in) {
  const RepoCache cache(settings.cache, request.repo);
  const auto commit = cache.commit_of(request.revision);
  if (!commit || !fs::is_directory(cache.snapshot(*commit))) {
    looked_in =
        fmt::format("Looked in: the folder ./{}, the cache {} (nothing there for revision '{}')",
                    request.repo, cache.folder().string(), request.revision);
    return std::nullopt;
  }
  const auto missing = missing_file(cache.snapshot(*commit));
  if (!missing) return cache.snapshot(*commit);
  looked_in = fmt::format("Looked in: the folder ./{}, the cache {} (which lacks {})", request.repo,
                          cache.snapshot(*commit).string(), *missing);
  return std::nullopt;
}

fs::path resolve_repo(const std::string& repo, const HubOptions& options) {
  HubSettings settings = read_hub_settings(environment_variable);
  if (options.download_dir) settings.cache = *options.download_dir;
  RepoRequest request{repo, options.revision.value_or("main"), "", options.show_progress};
  if (!is_revision(request.revision)) {
    fail(Code::kInvalidArgument, "--revision '{}' is no branch, tag or commit", request.revision);
  }
  if (const auto snapshot = find_in_cache(request, settings, request.looked_in)) return *snapshot;
  if (settings.offline) {
    fail(Code::kNotFound, "{} is not at hand and HF_HUB_OFFLINE forbids to download it. {}", repo,
         request.looked_in);
  }
  return download_model(request, settings);
}

fs::path convert_gguf(const fs::path& gguf, const HubOptions& options) {
  const auto write_folder = [&](const fs::path& input, const fs::path& folder) {
    ConvertOptions conversion;
    conversion.input = input;
    conversion.output = folder;
    conversion.keep_types = true;
    conversion.show_progress = options.show_progress;
    convert(conversion);
  };
  return converted_folder(gguf, erne_cache(environment_variable), write_folder);
}

}  // namespace

fs::path resolve_model(const std::string& model, const HubOptions& options) {
  if (model.empty()) {
    fail(Code::kInvalidArgument,
         "--model-path is empty; give a folder, a .gguf file or a hub id such as "
         "baidu/ERNIE-4.5-0.3B-PT");
  }
  std::error_code unreadable;
  if (fs::is_directory(model, unreadable)) return model;
  if (fs::exists(model, unreadable)) {
    if (GgufFile::looks_like(model)) return convert_gguf(model, options);
    fail(Code::kInvalidArgument, "{} is a file; a model is a folder, a .gguf file or a hub id",
         model);
  }
  if (!is_repo_id(model) || model.ends_with(".gguf")) {
    fail(Code::kNotFound,
         "there is no folder or file {}, and it is no hub id such as baidu/ERNIE-4.5-0.3B-PT",
         model);
  }
  return resolve_repo(model, options);
}

}  // namespace erne
