// A client of bare sockets, to send what no HTTP library would send.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"

namespace erne::server {

class RawClient {
 public:
  explicit RawClient(uint16_t port, int receive_buffer = 0)
      : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    if (receive_buffer > 0)
      setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int rc = ::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address);
    ERNE_CHECK(rc == 0, "connect to port {}", port);
  }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;
  ~RawClient() { close(); }

  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  /// False when the server does not take it all (it closed).
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }
  /// Reads until `mark` has come; false if the connection ends or 10 s pass before.
  bool read_until(std::string_view mark) {
    for (size_t from = 0; received_.find(mark, from) == std::string::npos;) {
      from = received_.size() - std::min(received_.size(), mark.size());
      if (!read_some()) return false;
    }
    return true;
  }
  /// Everything until the server closes.
  const std::string& read_all() {
    while (read_some()) {
    }
    return received_;
  }
  /// One answer with Content-Length, taken out of what was received.
  std::string take_answer() {
    if (!read_until("\r\n\r\n")) return {};
    const size_t head = received_.find("\r\n\r\n") + 4;
    const size_t at = received_.find("Content-Length: ");
    const size_t body = at < head ? std::stoul(received_.substr(at + 16)) : 0;
    while (received_.size() < head + body) {
      if (!read_some()) return {};
    }
    std::string answer = received_.substr(0, head + body);
    received_.erase(0, head + body);
    return answer;
  }
  const std::string& received() const { return received_; }

 private:
  bool read_some() {
    pollfd poll{fd_, POLLIN, 0};
    if (::poll(&poll, 1, 10'000) != 1) return false;
    char buffer[65536];
    const ssize_t size = ::recv(fd_, buffer, sizeof buffer, 0);
    if (size <= 0) return false;
    received_.append(buffer, static_cast<size_t>(size));
    return true;
  }

  int fd_;
  std::string received_;
};

}  // namespace erne::server
