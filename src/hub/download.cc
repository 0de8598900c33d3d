#include "hub/download.h"

#include <algorithm>
#include <exception>
#include <mutex>
#include <set>
#include <system_error>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/progress.h"
#include "hub/http.h"
#include "hub/listing.h"
#include "hub/repo_cache.h"
#include "hub/transfer.h"

namespace erne {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxAnswerBytes = size_t{64} << 20;
constexpr int kMaxPages = 200;

// One download: the request, the listing and the threads that fetch.
class Download {
 public:
  Download(const RepoRequest& request, const HubSettings& settings)
      : request_(request),
        settings_(settings),
        cache_(settings.cache, request.repo),
        http_(settings, nullptr) {}

  fs::path run();

 private:
  std::string api(const std::string& url, std::string* link);
  std::vector<RepoFile> list(const std::string& commit);
  std::vector<RepoFile> weights(const NeededFiles& needed, const std::vector<RepoFile>& files,
                                const fs::path& snapshot);
  void check_space(const std::vector<RepoFile>& files) const;
  void fetch_all(std::vector<RepoFile> files, const std::string& commit, bool show_progress);
  void fetch_one(HttpClient& http, const Transfer& transfer, const RepoFile& file,
                 const std::string& commit) const;
  bool at_hand(const RepoFile& file) const;
  void explain(const HttpAnswer& answer) const;

  const RepoRequest& request_;
  const HubSettings& settings_;
  RepoCache cache_;
  HttpClient http_;
};

// What to do about an answer that will not change. Every message ends with the next step.
void Download::explain(const HttpAnswer& answer) const {
  const std::string& repo = request_.repo;
  const std::string page = fmt::format("{}/{}", settings_.endpoint, repo);
  if (answer.error_code == "RevisionNotFound") {
    fail(Code::kNotFound,
         "{} has no revision '{}'; its branches and tags are shown at {}/tree/main", repo,
         request_.revision, page);
  }
  const bool gated = answer.error_code == "GatedRepo" || answer.status == 403;
  if (gated && !settings_.token.empty()) {
    fail(Code::kNotFound,
         "the token in {} may not read {} (HTTP status {}): accept its terms at {} with that "
         "account, or use a "
         "token that may read it",
         settings_.token_source, repo, answer.status, page);
  }
  if (answer.status == 401 || answer.status == 403) {
    const std::string fix = settings_.token.empty()
                                ? "If the spelling is right it is private or gated: set HF_TOKEN "
                                  "to a token that may read it"
                                : fmt::format(
                                      "If the spelling is right, the token in {} is wrong, expired "
                                      "or of another account",
                                      settings_.token_source);
    fail(Code::kNotFound, "{} does not show {} (HTTP status {}). {}. {}", settings_.endpoint, repo,
         answer.status, fix, request_.looked_in);
  }
  if (answer.status == 404) {
    fail(Code::kNotFound,
         "{} has no model {} at revision '{}' (HTTP status 404): check the spelling. {}",
         settings_.endpoint, repo, request_.revision, request_.looked_in);
  }
}

std::string Download::api(const std::string& url, std::string* link) {
  Backoff backoff(settings_, nullptr);
  while (true) {
    std::string text;
    const HttpAnswer answer =
        http_.get(url, 0, [&](const HttpAnswer&, const char* data, size_t size) {
          if (size > kMaxAnswerBytes - text.size()) return false;
          text.append(data, size);
          return true;
        });
    if (answer.ok()) {
      if (link != nullptr) *link = answer.link;
      return text;
    }
    if (!answer.is_transient()) {
      if (answer.failure.empty()) explain(answer);
      fail(Code::kIo, "cannot fetch {}: {}. {}", url, answer.reason(), request_.looked_in);
    }
    if (!backoff.next(answer)) {
      fail(Code::kIo,
           "cannot reach {}: {}. Is the network up? Without one, give a folder or a .gguf file. {}",
           settings_.endpoint, answer.reason(), request_.looked_in);
    }
  }
}

std::vector<RepoFile> Download::list(const std::string& commit) {
  std::vector<RepoFile> files;
  std::string url = fmt::format("{}/api/models/{}/tree/{}?recursive=true", settings_.endpoint,
                                request_.repo, commit);
  for (int page = 0; page < kMaxPages; ++page) {
    std::string link;
    std::vector<RepoFile> more = parse_tree(api(url, &link));
    files.insert(files.end(), more.begin(), more.end());
    const auto next = next_page(link);
    if (!next) return files;
    // A page elsewhere could not be trusted with the token, and the hub has none.
    if (!next->starts_with(settings_.endpoint + "/")) {
      fail(Code::kCorrupt, "the hub continues its file list at {}, outside {}", *next,
           settings_.endpoint);
    }
    url = *next;
  }
  fail(Code::kCorrupt, "the hub's file list of {} has over {} pages", request_.repo, kMaxPages);
}

std::vector<RepoFile> Download::weights(const NeededFiles& needed,
                                        const std::vector<RepoFile>& files,
                                        const fs::path& snapshot) {
  if (!needed.has_index) return needed.weights;
  std::vector<RepoFile> shards;
  for (const std::string& name : parse_index(read_file(snapshot / kIndexFile))) {
    const auto found =
        std::find_if(files.begin(), files.end(), [&](const RepoFile& f) { return f.path == name; });
    if (found == files.end()) {
      fail(Code::kCorrupt, "{}: the index names the shard {}, which the repository does not hold",
           request_.repo, name);
    }
    shards.push_back(*found);
  }
  return shards;
}

bool Download::at_hand(const RepoFile& file) const {
  std::error_code absent;
  const uint64_t size = fs::file_size(cache_.blob(file.digest), absent);
  return !absent && size == file.size;
}

void Download::check_space(const std::vector<RepoFile>& files) const {
  uint64_t wanted = 0;
  for (const RepoFile& file : files) {
    if (at_hand(file)) continue;
    std::error_code absent;
    const uint64_t part = fs::file_size(cache_.incomplete(file.digest), absent);
    wanted += absent || part > file.size ? file.size : file.size - part;
  }
  std::error_code unknown;
  const fs::space_info space = fs::space(settings_.cache, unknown);
  if (!unknown && wanted > space.available) {
    fail(Code::kIo,
         "{} needs {} more, but {} has {} left. Free some space, or set HF_HUB_CACHE to a folder "
         "on a larger disk",
         request_.repo, human_bytes(wanted), settings_.cache.string(),
         human_bytes(space.available));
  }
}

void Download::fetch_one(HttpClient& http, const Transfer& transfer, const RepoFile& file,
                         const std::string& commit) const {
  if (!at_hand(file)) {
    const FileLock lock(cache_.lock(file.digest), transfer.stop);
    if (transfer.stop->load()) return;
    if (at_hand(file)) {  // another process was faster
      transfer.arrived(static_cast<int64_t>(file.size));
    } else {
      const std::string url = fmt::format("{}/{}/resolve/{}/{}", settings_.endpoint, request_.repo,
                                          commit, url_escape(file.path, Slash::kKeep));
      transfer.fetch(http, url, file);
    }
  } else {
    transfer.arrived(static_cast<int64_t>(file.size));
  }
  cache_.link(commit, file.path, file.digest);
}

void Download::fetch_all(std::vector<RepoFile> files, const std::string& commit,
                         bool show_progress) {
  // Largest first: the last to finish is then a small one.
  std::sort(files.begin(), files.end(),
            [](const RepoFile& a, const RepoFile& b) { return a.size > b.size; });
  uint64_t total = 0;
  for (const RepoFile& file : files) total += file.size;
  Progress bar(fmt::format("downloading {}", request_.repo), total, ProgressUnit::kBytes,
               show_progress);

  std::atomic<bool> stop{false};
  std::atomic<int64_t> bytes{0};
  std::atomic<size_t> next{0};
  std::mutex mutex;
  std::exception_ptr first_error;
  const Transfer transfer{settings_, cache_, &stop,
                          [&](int64_t change) {
                            const int64_t now = bytes.fetch_add(change) + change;
                            bar.set(static_cast<uint64_t>(std::max<int64_t>(0, now)));
                          },
                          [this](const HttpAnswer& answer) { explain(answer); }};
  const auto work = [&] {
    try {
      HttpClient http(settings_, &stop);
      for (size_t i = next++; i < files.size() && !stop.load(); i = next++) {
        fetch_one(http, transfer, files[i], commit);
      }
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!first_error) first_error = std::current_exception();
      stop = true;
    }
  };
  std::vector<std::thread> threads;
  const size_t count =
      std::min(files.size(), static_cast<size_t>(std::max(1, settings_.connections)));
  for (size_t i = 0; i < count; ++i) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
  if (first_error) std::rethrow_exception(first_error);
}

fs::path Download::run() {
  const std::string base = fmt::format("{}/api/models/{}", settings_.endpoint, request_.repo);
  const std::string commit = parse_commit(api(
      fmt::format("{}/revision/{}", base, url_escape(request_.revision, Slash::kEscape)), nullptr));
  const std::vector<RepoFile> files = list(commit);
  const NeededFiles needed = choose_files(files, request_.repo);

  const fs::path snapshot = cache_.snapshot(commit);
  fs::create_directories(snapshot);
  fs::create_directories(cache_.blob("").parent_path());
  fs::create_directories(cache_.lock("").parent_path());

  check_space(needed.small);
  fetch_all(needed.small, commit, false);
  const std::vector<RepoFile> shards = weights(needed, files, snapshot);
  check_space(shards);
  fetch_all(shards, commit, request_.show_progress);
  cache_.write_ref(request_.revision, commit);
  return snapshot;
}

}  // namespace

fs::path download_model(const RepoRequest& request, const HubSettings& settings) {
  log::info("fetching {} (revision {}) from {} into {}", request.repo, request.revision,
            settings.endpoint, settings.cache.string());
  try {
    return Download(request, settings).run();
  } catch (const fs::filesystem_error& e) {
    fail(Code::kIo,
         "cannot write to the model cache {}: {}. Set HF_HUB_CACHE to a folder that you may write "
         "to",
         settings.cache.string(), e.what());
  }
}

}  // namespace erne
