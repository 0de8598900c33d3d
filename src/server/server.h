// The server as one object: listens from the start, answers 503 until a model is attached, drains
// at the end.
#pragma once

#include <chrono>
#include <memory>

#include "server/backend.h"
#include "server/service.h"

namespace erne::server {

class Server {
 public:
  /// Listens at once. Throws Error{kIo} if it cannot.
  explicit Server(ServerOptions options);
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server();

  uint16_t port() const;
  /// From now on requests are accepted. `backend` must outlive stop().
  void attach(Backend& backend);
  /// Refuses new requests, waits up to `grace` until the running ones have ended and their clients
  /// have read the answers, then ends what runs with finish reason abort.
  void drain(std::chrono::milliseconds grace);
  /// Closes all connections and stops the text threads; the backend is not used any more
  /// afterwards.
  void stop();

  Service& service() { return *service_; }

 private:
  struct Http;
  std::unique_ptr<Service> service_;
  std::unique_ptr<Http> http_;
};

/// Raises the limit of open files to the hard limit: each connection is one. Returns the limit now.
uint64_t raise_file_limit();

}  // namespace erne::server
