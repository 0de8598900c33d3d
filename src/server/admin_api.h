// Administration: emptying the cache and ending requests.
#pragma once

#include <memory>

#include "server/http.h"
#include "server/service.h"

namespace erne::server {

/// GET, POST /flush_cache[?timeout=S]: 200 once idle and cleared, else 400 with what still runs
/// (plain text).
void flush_cache(Service& service, const HttpRequest& request,
                 const std::shared_ptr<HttpResponder>& responder);
/// POST /abort_request {"rid": prefix} or {"abort_all": true}: always 200 for a valid body.
HttpResponse abort_request(Service& service, const HttpRequest& request);

}  // namespace erne::server
