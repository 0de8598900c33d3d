// What the server says of itself: models, model and server info, load.
#pragma once

#include <string>

#include "server/http.h"
#include "server/service.h"

namespace erne::server {

/// GET /v1/models.
HttpResponse list_models(const Service& service);
/// GET /v1/models/{id}; `id` decoded. Throws Error{kNotFound}.
HttpResponse show_model(const Service& service, const std::string& id);
/// GET /get_model_info.
HttpResponse model_info(const Service& service);
/// GET /get_server_info: launch arguments flat, counters in internal_states. `num_connections`:
/// open now.
HttpResponse server_info(const Service& service, size_t num_connections);
/// GET /get_load and /v1/loads.
HttpResponse load(const Service& service);

}  // namespace erne::server
