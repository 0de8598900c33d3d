// POST /tokenize, /detokenize and /apply-template: text work without the engine.
#pragma once

#include "server/http.h"
#include "server/service.h"

namespace erne::server {

/// On a text thread. Throw Error for a request that is refused.
HttpResponse tokenize(Service& service, const HttpRequest& request);
HttpResponse detokenize(Service& service, const HttpRequest& request);
HttpResponse apply_template(Service& service, const HttpRequest& request);

}  // namespace erne::server
