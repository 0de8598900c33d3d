// POST /v1/completions (spec serving.md 5).
#pragma once

#include <memory>

#include "server/http.h"
#include "server/service.h"

namespace erne::server {

/// As chat_completions.
void completions(Service& service, const HttpRequest& request,
                 const std::shared_ptr<HttpResponder>& responder);

}  // namespace erne::server
