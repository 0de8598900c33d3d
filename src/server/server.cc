#include "server/server.h"

#include <sys/resource.h>

#include <thread>

#include "base/log.h"
#include "server/routes.h"

namespace erne::server {
namespace {

constexpr std::chrono::milliseconds kPoll{20};
/// After the grace period: how long the engine may take to end what it was told to abort.
constexpr std::chrono::seconds kAbortTime{10};
/// How long answers may take to reach their clients before connections are closed.
constexpr std::chrono::seconds kFlushTime{2};

}  // namespace

struct Server::Http {
  explicit Http(Service& service) : api(service), server(service.options.http, api) {}
  Api api;
  HttpServer server;
};

Server::Server(ServerOptions options) : service_(std::make_unique<Service>(std::move(options))) {
  service_->start_time_s = unix_time_s();
  http_ = std::make_unique<Http>(*service_);
  HttpServer& http = http_->server;
  // Read only by handlers that run once the phase is kReady.
  service_->later = [&http](std::chrono::milliseconds delay, std::function<void()> task) {
    http.call_later(delay, std::move(task));
  };
  service_->num_connections = [&http] { return http.num_connections(); };
  service_->num_busy = [&http] { return http.num_busy(); };
}

Server::~Server() { stop(); }

uint16_t Server::port() const { return http_->server.port(); }

void Server::attach(Backend& backend) { service_->attach(backend); }

void Server::drain(std::chrono::milliseconds grace) {
  service_->phase.store(Phase::kDraining);
  const auto running = [this] {
    return service_->handling.load() > 0 || service_->live.size() > 0;
  };
  // Also answers on their way to slow readers.
  const auto busy = [&] { return running() || http_->server.num_busy() > 0; };
  const auto wait = [](const auto& condition, std::chrono::milliseconds time) {
    const auto deadline = std::chrono::steady_clock::now() + time;
    while (condition() && std::chrono::steady_clock::now() < deadline)
      std::this_thread::sleep_for(kPoll);
  };
  wait(busy, grace);
  if (!busy()) return;
  log::warn("the grace period is over: {} requests are ended, {} answers have not been read",
            service_->live.size(), http_->server.num_busy());
  service_->live.cancel("");
  wait(running, kAbortTime);
}

void Server::stop() {
  if (!http_) return;
  if (service_->phase.exchange(Phase::kDraining) == Phase::kReady) service_->live.cancel("");
  // The last answers are on their way to sockets: idle connections do not hold us, busy ones get a
  // moment.
  service_->parse_pool.stop();
  service_->control_pool.stop();
  const auto deadline = std::chrono::steady_clock::now() + kFlushTime;
  while (http_->server.num_busy() > 0 && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(kPoll);
  }
  http_.reset();
  service_->format_pool.stop();
}

uint64_t raise_file_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  getrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_cur;
}

}  // namespace erne::server
