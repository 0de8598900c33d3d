// POST /v1/chat/completions (spec serving.md 4).
#pragma once

#include <memory>

#include "server/http.h"
#include "server/service.h"

namespace erne::server {

/// On a text thread. Throws Error for a request that is refused; answers through `responder`
/// otherwise.
void chat_completions(Service& service, const HttpRequest& request,
                      const std::shared_ptr<HttpResponder>& responder);

}  // namespace erne::server
