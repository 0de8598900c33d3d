// /health and /ready (spec serving.md 10). A busy engine proves itself by its steps, an idle one by
// a hidden token.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "server/http.h"
#include "server/service.h"

namespace erne::server {

class Health : public std::enable_shared_from_this<Health> {
 public:
  explicit Health(Service& service) : service_(service) {}

  /// 200 if the engine made progress within 20 s or answers a hidden 1-token request, else 503;
  /// 503 with the cause once the device is lost.
  /// Probes that come while one is under way share its result.
  void check(const std::shared_ptr<HttpResponder>& responder);
  /// 200 only if new requests are accepted, else 503 {"status": reason}.
  HttpResponse ready() const;

 private:
  class Probe;
  void probe_done(bool alive);
  bool queue_is_full() const;
  void answer(HttpResponder& responder, bool alive) const;

  Service& service_;
  std::mutex mutex_;
  std::vector<std::shared_ptr<HttpResponder>> waiting_;
  uint64_t round_ = 0;  ///< which probe is under way
};

}  // namespace erne::server
