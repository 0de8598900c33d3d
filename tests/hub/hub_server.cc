#include "hub/hub_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "hub/content_digest.h"

namespace erne {

namespace fs = std::filesystem;

struct HubServer::Request {
  std::string path;
  std::map<std::string, std::string> headers;

  std::string header(const std::string& name) const {
    const auto found = headers.find(name);
    return found == headers.end() ? "" : found->second;
  }
  size_t range_start() const {
    const std::string range = header("range");
    return range.starts_with("bytes=") ? std::stoul(range.substr(6)) : 0;
  }
};

namespace {

int listen_on_free_port(int& port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ERNE_CHECK(fd >= 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ERNE_CHECK(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
  ERNE_CHECK(::listen(fd, 64) == 0);
  socklen_t size = sizeof(address);
  ERNE_CHECK(::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  port = ntohs(address.sin_port);
  return fd;
}

void send_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
    if (n <= 0) return;  // the client hung up, as some tests want
    text.remove_prefix(static_cast<size_t>(n));
  }
}

std::string head(int status, const std::string& extra, size_t size) {
  return fmt::format("HTTP/1.1 {} X\r\nConnection: close\r\nContent-Length: {}\r\n{}\r\n", status,
                     size, extra);
}

void send_answer(int fd, int status, const std::string& extra, std::string_view body) {
  send_all(fd, head(status, extra, body.size()));
  send_all(fd, body);
}

std::string read_head(int fd) {
  std::string text;
  char c = 0;
  while (!text.ends_with("\r\n\r\n") && ::recv(fd, &c, 1, 0) == 1) text += c;
  return text;
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

}  // namespace

HubServer::HubServer() {
  hub_fd_ = listen_on_free_port(hub_port_);
  storage_fd_ = listen_on_free_port(storage_port_);
  acceptor_ = std::thread([this] { accept_loop(); });
}

HubServer::~HubServer() {
  stop_ = true;
  acceptor_.join();
  for (std::thread& connection : connections_) connection.join();
  ::close(hub_fd_);
  ::close(storage_fd_);
}

std::string HubServer::endpoint() const { return fmt::format("http://127.0.0.1:{}", hub_port_); }

std::string HubServer::storage_url(const std::string& path) const {
  return fmt::format("http://127.0.0.1:{}/storage/{}?signature=x", storage_port_, path);
}

void HubServer::add(const std::string& path, const std::string& content, Kind kind) {
  const fs::path file = fs::temp_directory_path() / fmt::format("erne-hub-server-{}", ::getpid());
  write_file(file, content);
  constexpr size_t kSha256Digits = 64, kSha1Digits = 40;
  const std::string like(kind == Kind::kLarge ? kSha256Digits : kSha1Digits, '0');
  files_[path] = File{content, content_digest(file, like), kind};
  fs::remove(file);
}

void HubServer::misbehave(const std::string& path, std::deque<Fault> faults) {
  const std::lock_guard lock(mutex_);
  faults_[path] = std::move(faults);
}

std::vector<SeenRequest> HubServer::seen() {
  const std::lock_guard lock(mutex_);
  return seen_;
}

size_t HubServer::count(const std::string& path_end) {
  size_t count = 0;
  for (const SeenRequest& request : seen()) {
    count += request.path.ends_with(path_end) ? 1 : 0;
  }
  return count;
}

void HubServer::accept_loop() {
  while (!stop_) {
    pollfd waiting[2] = {{hub_fd_, POLLIN, 0}, {storage_fd_, POLLIN, 0}};
    constexpr int kPollMs = 20;
    if (::poll(waiting, 2, kPollMs) <= 0) continue;
    for (const pollfd& ready : waiting) {
      if ((ready.revents & POLLIN) == 0) continue;
      const int fd = ::accept4(ready.fd, nullptr, nullptr, SOCK_CLOEXEC);
      const bool storage = ready.fd == storage_fd_;
      if (fd >= 0) connections_.emplace_back([this, fd, storage] { serve(fd, storage); });
    }
  }
}

void HubServer::serve(int fd, bool storage) {
  const std::string text = read_head(fd);
  Request request;
  const size_t space = text.find(' ');
  if (space != text.npos)
    request.path = text.substr(space + 1, text.find(' ', space + 1) - space - 1);
  for (size_t line = text.find("\r\n"); line != text.npos && line + 2 < text.size();) {
    const size_t end = text.find("\r\n", line + 2);
    const std::string header = text.substr(line + 2, end - line - 2);
    const size_t colon = header.find(": ");
    if (colon != header.npos)
      request.headers[lower(header.substr(0, colon))] = header.substr(colon + 2);
    line = end;
  }
  {
    const std::lock_guard lock(mutex_);
    seen_.push_back({storage, request.path, request.headers});
  }
  if (request.path.starts_with("/api/")) {
    answer_api(fd, request);
  } else {
    answer_file(fd, request, storage);
  }
  ::shutdown(fd, SHUT_WR);
  ::close(fd);
}

std::string HubServer::tree_page(size_t first) const {
  Json entries = Json::array();
  entries.push_back(
      {{"type", "directory"}, {"path", "original"}, {"oid", HubServer::kCommit}, {"size", 0}});
  size_t i = 0;
  for (const auto& [path, file] : files_) {
    if (i++ < first || i > first + files_per_page) continue;
    const std::string git_id(40, 'a');
    Json entry = {{"type", "file"}, {"path", path}, {"size", file.content.size()}};
    entry["oid"] = file.kind == Kind::kLarge ? git_id : file.digest;
    if (file.kind == Kind::kLarge) {
      entry["lfs"] = {{"oid", file.digest}, {"size", file.content.size()}, {"pointerSize", 130}};
    }
    entries.push_back(entry);
  }
  return entries.dump();
}

void HubServer::answer_api(int fd, const Request& request) {
  std::string extra;
  for (const auto& [name, value] : headers_of_refusal) extra += name + ": " + value + "\r\n";
  if (refuse_with != 0) return send_answer(fd, refuse_with, extra, "{\"error\":\"refused\"}");
  if (!required_token.empty() && request.header("authorization") != "Bearer " + required_token) {
    return send_answer(fd, 401, extra, "{\"error\":\"Invalid username or password.\"}");
  }
  const std::string base = std::string("/api/models/") + kRepo;
  if (request.path == base + "/revision/main" || request.path == base + "/revision/refs%2Fpr%2F1") {
    return send_answer(fd, 200, "", Json({{"sha", kCommit}, {"id", kRepo}}).dump());
  }
  const std::string tree = base + "/tree/" + kCommit + "?recursive=true";
  if (!request.path.starts_with(tree))
    return send_answer(fd, 404, "X-Error-Code: RevisionNotFound\r\n", "{}");
  if (!listing.empty()) return send_answer(fd, 200, "", listing);
  const size_t cursor = request.path.find("&cursor=");
  const size_t first =
      cursor == std::string::npos ? 0 : std::stoul(request.path.substr(cursor + 8));
  std::string link;
  if (first + files_per_page < files_.size()) {
    link = fmt::format("Link: <{}{}&cursor={}>; rel=\"next\"\r\n", endpoint(), tree,
                       first + files_per_page);
  }
  send_answer(fd, 200, link, tree_page(first));
}

void HubServer::answer_file(int fd, const Request& request, bool storage) {
  const std::string prefix = storage ? "/storage/" : fmt::format("/{}/resolve/{}/", kRepo, kCommit);
  const std::string path = request.path.substr(0, request.path.find('?'));
  const auto found =
      path.starts_with(prefix) ? files_.find(path.substr(prefix.size())) : files_.end();
  if (found == files_.end()) return send_answer(fd, 404, "X-Error-Code: EntryNotFound\r\n", "");
  const auto& [name, file] = *found;
  if (!storage && !required_token.empty() &&
      request.header("authorization") != "Bearer " + required_token) {
    return send_answer(fd, 401, "", "");
  }
  if (file.kind == Kind::kLarge && !storage) {
    return send_answer(
        fd, 302,
        fmt::format("Location: {}\r\nX-Linked-Etag: \"{}\"\r\n", storage_url(name), file.digest),
        "");
  }
  std::deque<Fault> next;
  {
    const std::lock_guard lock(mutex_);
    std::deque<Fault>& queue = faults_[name];
    if (!queue.empty()) {
      next.push_back(queue.front());
      queue.pop_front();
    }
  }
  send_content(fd, request, file, next.empty() ? nullptr : &next.front());
}

void HubServer::send_content(int fd, const Request& request, const File& file, const Fault* fault) {
  const std::string& content = file.content;
  size_t start = request.range_start();
  if (fault != nullptr) {
    switch (*fault) {
      case Fault::kBusy:
        return send_answer(fd, 503, "", "busy");
      case Fault::kExpired:
        return send_answer(fd, 403, "", "");
      case Fault::kNoSuchRange:
        return send_answer(fd, 416, "", "");
      case Fault::kPlainHttpElsewhere:
        return send_answer(fd, 302, "Location: http://192.0.2.1/file\r\n", "");
      case Fault::kRedirectLoop:
        return send_answer(fd, 302, fmt::format("Location: {}\r\n", request.path), "");
      case Fault::kIgnoreRange:
        start = 0;
        break;
      case Fault::kWrongRange:
        return send_answer(
            fd, 206,
            fmt::format("Content-Range: bytes 0-{}/{}\r\n", content.size() - 1, content.size()),
            content);
      case Fault::kTooLong:
        send_all(fd, "HTTP/1.1 200 X\r\nConnection: close\r\n\r\n");
        return send_all(fd, content + "and more");
      case Fault::kDropHalf:
      case Fault::kWrongBytes:
      case Fault::kStall:
        break;
    }
  }
  std::string body = content.substr(start);
  const std::string range =
      fmt::format("Content-Range: bytes {}-{}/{}\r\n", start, content.size() - 1, content.size());
  const size_t announced = body.size();
  if (fault != nullptr && *fault == Fault::kWrongBytes) body[body.size() / 2] ^= 1;
  if (fault != nullptr && (*fault == Fault::kDropHalf || *fault == Fault::kStall))
    body.resize(body.size() / 2);
  send_all(fd, head(start > 0 ? 206 : 200, start > 0 ? range : "", announced));
  send_all(fd, body);
  // Silence lasts until the client has had enough of it.
  char c = 0;
  if (fault != nullptr && *fault == Fault::kStall) (void)!::recv(fd, &c, 1, 0);
}

}  // namespace erne
