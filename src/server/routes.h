// The route table and everything that is checked before a body is read: key, route, method, type,
// readiness.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "server/auth.h"
#include "server/health.h"
#include "server/http.h"
#include "server/service.h"

namespace erne::server {

/// All routes over one Service. check_head, handle and decorate run on the io thread; bodies are
/// read on text threads.
class Api final : public HttpApp {
 public:
  explicit Api(Service& service);

  std::optional<HttpResponse> check_head(const HttpRequest& request) override;
  void handle(HttpRequest request, std::shared_ptr<HttpResponder> responder) override;
  HttpResponse refuse(int status, std::string_view message) override;
  void decorate(const HttpRequest& request, HttpResponse& response) override;

 private:
  Service& service_;
  const Keys keys_;
  const std::shared_ptr<Health> health_;
};

}  // namespace erne::server
