// POST and PUT /generate: SGLang's native route (spec serving.md 8).
#pragma once

#include <memory>

#include "server/http.h"
#include "server/service.h"

namespace erne::server {

/// As chat_completions.
void generate(Service& service, const HttpRequest& request,
              const std::shared_ptr<HttpResponder>& responder);

}  // namespace erne::server
