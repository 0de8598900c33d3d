#include "hub/transfer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <string_view>
#include <thread>

#include "base/error.h"
#include "base/log.h"
#include "hub/content_digest.h"

namespace erne {
namespace {

namespace fs = std::filesystem;

// Wrong bytes are fetched again this often: a broken proxy gives the same wrong bytes each time.
constexpr int kMaxMismatches = 3;

// The .incomplete file: grows at its end.
class PartialFile {
 public:
  explicit PartialFile(const fs::path& path) : path_(path) {
    fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd_ < 0) fail_io("create");
    struct stat info {};
    if (::fstat(fd_, &info) != 0) fail_io("stat");
    size_ = static_cast<uint64_t>(info.st_size);
  }
  PartialFile(const PartialFile&) = delete;
  PartialFile& operator=(const PartialFile&) = delete;
  ~PartialFile() { ::close(fd_); }

  uint64_t size() const { return size_; }

  void clear() {
    if (::ftruncate(fd_, 0) != 0) fail_io("shorten");
    size_ = 0;
  }

  void append(const char* data, size_t size) {
    while (size > 0) {
      const ssize_t n = ::pwrite(fd_, data, size, static_cast<off_t>(size_));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail_io("write");
      data += n;
      size -= static_cast<size_t>(n);
      size_ += static_cast<uint64_t>(n);
    }
  }

  void flush() {
    if (::fsync(fd_) != 0) fail_io("flush");
  }

 private:
  [[noreturn]] void fail_io(const char* action) const {
    const int cause = errno;
    const bool full = cause == ENOSPC || cause == EDQUOT;
    fail(Code::kIo, "cannot {} {}: {}{}", action, path_.string(), std::strerror(cause),
         full ? ". Free some space, or set HF_HUB_CACHE to a folder on a larger disk; what has "
                "arrived is kept"
              : "");
  }

  fs::path path_;
  int fd_ = -1;
  uint64_t size_ = 0;
};

// "bytes 100-199/200" answers a request for "100-".
bool continues_at(const std::string& content_range, uint64_t start) {
  return content_range.starts_with(fmt::format("bytes {}-", start));
}

[[noreturn]] void fail_transfer(const RepoFile& file, const HttpAnswer& answer, uint64_t at_hand) {
  fail(Code::kIo,
       "cannot fetch {}: {} (at {} of {} bytes). What has arrived is kept: the same command "
       "continues",
       file.path, answer.reason(), at_hand, file.size);
}

}  // namespace

bool Backoff::next(const HttpAnswer& answer) {
  if (++failures_ >= settings_.attempts) return false;
  constexpr int kMaxFactor = 60;
  const int factor = std::min(kMaxFactor, 1 << std::min(failures_ - 1, 10));
  constexpr int kMaxAskedSeconds = 120;
  const auto wait = std::max(
      std::chrono::milliseconds(int64_t{settings_.backoff_ms} * factor),
      std::chrono::milliseconds(1000 * int64_t{std::min(answer.retry_after_s, kMaxAskedSeconds)}));
  log::info("{}; attempt {} of {} in {} ms", answer.reason(), failures_ + 1, settings_.attempts,
            wait.count());
  const auto until = std::chrono::steady_clock::now() + wait;
  while (std::chrono::steady_clock::now() < until) {
    if (stop_ != nullptr && stop_->load()) return false;
    std::this_thread::sleep_for(std::min(wait, std::chrono::milliseconds(50)));
  }
  return true;
}

namespace {

// One attempt: appends to `partial` what the server sends, from where it ends.
HttpAnswer attempt(HttpClient& http, const std::string& url, const RepoFile& file,
                   PartialFile& partial, const std::function<void(int64_t)>& arrived) {
  const uint64_t start = partial.size();
  bool first = true;
  return http.get(url, start, [&](const HttpAnswer& head, const char* data, size_t size) {
    if (first && start > 0 && !(head.status == 206 && continues_at(head.content_range, start))) {
      arrived(-static_cast<int64_t>(partial.size()));
      partial.clear();
      // Another range than the one asked for is useless; the whole file is as good.
      if (head.status == 206) return false;
    }
    first = false;
    if (size > file.size - partial.size()) {  // longer than listed: none of it can be trusted
      arrived(-static_cast<int64_t>(partial.size()));
      partial.clear();
      return false;
    }
    partial.append(data, size);
    arrived(static_cast<int64_t>(size));
    return true;
  });
}

// Attempts until `partial` has file.size bytes.
void fill(const Transfer& transfer, HttpClient& http, const std::string& url, const RepoFile& file,
          PartialFile& partial) {
  Backoff backoff(transfer.settings, transfer.stop);
  uint64_t furthest = partial.size();
  while (partial.size() < file.size) {
    const uint64_t before = partial.size();
    HttpAnswer answer = attempt(http, url, file, partial, transfer.arrived);
    if (partial.size() == file.size) return;
    if (answer.status == 416 && before > 0) {  // no such range: the part at hand is of another file
      transfer.arrived(-static_cast<int64_t>(partial.size()));
      partial.clear();
    } else if (!answer.ok() && !answer.is_transient()) {
      if (answer.failure.empty()) transfer.explain(answer);
      fail_transfer(file, answer, partial.size());
    }
    if (answer.ok()) answer.failure = "the answer ended early";
    if (partial.size() > furthest) backoff.reset();
    furthest = std::max(furthest, partial.size());
    if (!backoff.next(answer)) fail_transfer(file, answer, partial.size());
  }
}

}  // namespace

void Transfer::fetch(HttpClient& http, const std::string& url, const RepoFile& file) const {
  const fs::path incomplete = cache.incomplete(file.digest);
  for (int mismatches = 1;; ++mismatches) {
    PartialFile partial(incomplete);
    if (partial.size() > file.size) partial.clear();
    arrived(static_cast<int64_t>(partial.size()));
    fill(*this, http, url, file, partial);
    const std::string found = content_digest(incomplete, file.digest);
    if (found == file.digest) {
      partial.flush();
      fs::rename(incomplete, cache.blob(file.digest));
      return;
    }
    arrived(-static_cast<int64_t>(partial.size()));
    fs::remove(incomplete);
    if (mismatches == kMaxMismatches) {
      fail(Code::kCorrupt,
           "{}: the hub lists the digest {}, but {} downloads had others, the last {}. Something "
           "on the way "
           "changes the bytes (a proxy?)",
           file.path, file.digest, mismatches, found);
    }
    log::warn("{} arrived with wrong bytes; fetching it again", file.path);
  }
}

}  // namespace erne
