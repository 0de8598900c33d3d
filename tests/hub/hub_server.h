// A hub of our own on two ports of this machine: the API and small files on the first, large files
// on the second (where the first redirects to, as the real hub does to its storage). It misbehaves
// on request, and remembers what it was asked.
#pragma once

#include <atomic>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace erne {

enum class Fault {
  kDropHalf,            ///< announces the whole, sends half, closes
  kWrongBytes,          ///< the right number of bytes, one of them changed
  kBusy,                ///< 503
  kIgnoreRange,         ///< 200 and the whole file whatever the range
  kWrongRange,          ///< 206 with another range than the one asked for
  kNoSuchRange,         ///< 416
  kTooLong,             ///< more bytes than listed, without a length
  kStall,               ///< half, then silence
  kPlainHttpElsewhere,  ///< redirects to http on another machine
  kRedirectLoop,
  kExpired,  ///< 403, as a storage answers whose signed address has run out
};

struct SeenRequest {
  bool on_storage_port = false;
  std::string path;
  std::map<std::string, std::string> headers;  ///< names in lower case
};

class HubServer {
 public:
  static constexpr const char* kRepo = "org/tiny";
  static constexpr const char* kCommit = "0123456789abcdef0123456789abcdef01234567";

  HubServer();
  HubServer(const HubServer&) = delete;
  HubServer& operator=(const HubServer&) = delete;
  ~HubServer();

  std::string endpoint() const;
  // The repository; set up before the first request.
  enum class Kind { kSmall, kLarge };
  void add(const std::string& path, const std::string& content, Kind kind);
  std::map<std::string, std::string> headers_of_refusal;
  std::string required_token;
  int refuse_with = 0;  ///< status for every API request
  std::string listing;  ///< in place of the true file list
  size_t files_per_page = 1000;

  /// The next requests for this file go wrong so, one each, in this order.
  void misbehave(const std::string& path, std::deque<Fault> faults);
  std::vector<SeenRequest> seen();
  size_t count(const std::string& path_end);

 private:
  struct File {
    std::string content, digest;
    Kind kind;
  };
  struct Request;

  void accept_loop();
  void serve(int fd, bool storage);
  void answer_api(int fd, const Request& request);
  void answer_file(int fd, const Request& request, bool storage);
  void send_content(int fd, const Request& request, const File& file, const Fault* fault);
  std::string tree_page(size_t first) const;
  std::string storage_url(const std::string& path) const;

  std::map<std::string, File> files_;
  std::map<std::string, std::deque<Fault>> faults_;
  std::vector<SeenRequest> seen_;
  std::mutex mutex_;
  int hub_fd_ = -1, storage_fd_ = -1;
  int hub_port_ = 0, storage_port_ = 0;
  std::atomic<bool> stop_{false};
  std::vector<std::thread> connections_;
  std::thread acceptor_;
};

}  // namespace erne
