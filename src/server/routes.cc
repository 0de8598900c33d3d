#include "server/routes.h"

#include <algorithm>
#include <array>

#include "base/log.h"
#include "server/admin_api.h"
#include "server/api_error.h"
#include "server/chat_api.h"
#include "server/completions_api.h"
#include "server/generate_api.h"
#include "server/http_text.h"
#include "server/info_api.h"
#include "server/tokenize_api.h"
#include "server/web_page.h"

namespace erne::server {
namespace {

using Responder = std::shared_ptr<HttpResponder>;

/// Everything a route needs; on a text thread unless Route::on_io.
struct Call {
  Service& service;
  Health& health;
  const HttpRequest& request;
  const Responder& responder;
};

struct Route {
  std::string_view path;
  std::string_view methods;  ///< as in Allow
  void (*run)(const Call& call);
  bool admin = false;
  bool needs_model = true;
  bool on_io =
      false;  ///< quick: answered without a text thread, so that probes work under any load
  bool takes_json = false;
};

void text_answer(const Responder& responder, std::string body) {
  HttpResponse response;
  response.content_type = "text/plain; charset=utf-8";
  response.body = std::move(body);
  responder->respond(std::move(response));
}

void run_chat(const Call& c) { chat_completions(c.service, c.request, c.responder); }
void run_completions(const Call& c) { completions(c.service, c.request, c.responder); }
void run_generate(const Call& c) { generate(c.service, c.request, c.responder); }
void run_tokenize(const Call& c) { c.responder->respond(tokenize(c.service, c.request)); }
void run_detokenize(const Call& c) { c.responder->respond(detokenize(c.service, c.request)); }
void run_apply_template(const Call& c) {
  c.responder->respond(apply_template(c.service, c.request));
}
void run_health(const Call& c) { c.health.check(c.responder); }
void run_ready(const Call& c) { c.responder->respond(c.health.ready()); }
void run_ping(const Call& c) { text_answer(c.responder, "pong\n"); }
void run_models(const Call& c) { c.responder->respond(list_models(c.service)); }
void run_model_info(const Call& c) { c.responder->respond(model_info(c.service)); }
void run_server_info(const Call& c) {
  c.responder->respond(server_info(c.service, c.service.num_connections()));
}
void run_load(const Call& c) { c.responder->respond(load(c.service)); }
void run_flush(const Call& c) { flush_cache(c.service, c.request, c.responder); }
void run_abort(const Call& c) { c.responder->respond(abort_request(c.service, c.request)); }

void run_model(const Call& c) {
  constexpr std::string_view kPrefix = "/v1/models/";
  const auto id = percent_decode(std::string_view(c.request.path).substr(kPrefix.size()));
  if (!id) refuse_field("model", "the path has a broken percent escape");
  c.responder->respond(show_model(c.service, *id));
}

void run_metrics(const Call& c) {
  if (!c.service.options.enable_metrics) {
    c.responder->respond(
        error_response(404, "metrics are off; start the server with --enable-metrics"));
    return;
  }
  HttpResponse response;
  response.content_type = "text/plain; version=0.0.4; charset=utf-8";
  response.body =
      c.service.metrics.text(c.service.backend.load()->stats(), c.service.num_connections());
  c.responder->respond(std::move(response));
}

// Ollama clients probe the root for this sentence.
void run_root(const Call& c) {
  const bool wants_page = c.request.header("accept").find("text/html") != std::string_view::npos;
  if (!wants_page || !c.service.options.web_ui)
    return text_answer(c.responder, "Ollama is running");
  HttpResponse response;
  response.content_type = "text/html; charset=utf-8";
  response.headers.push_back({"Cache-Control", "no-cache"});
  response.body = kWebPage;
  c.responder->respond(std::move(response));
}

constexpr bool kJson = true;
constexpr auto kRoutes = std::to_array<Route>({
    {"/v1/chat/completions", "POST", run_chat, false, true, false, kJson},
    {"/v1/completions", "POST", run_completions, false, true, false, kJson},
    {"/generate", "POST, PUT", run_generate, false, true, false, kJson},
    {"/tokenize", "POST", run_tokenize, false, true, false, kJson},
    {"/v1/tokenize", "POST", run_tokenize, false, true, false, kJson},
    {"/detokenize", "POST", run_detokenize, false, true, false, kJson},
    {"/v1/detokenize", "POST", run_detokenize, false, true, false, kJson},
    {"/apply-template", "POST", run_apply_template, false, true, false, kJson},
    {"/v1/models", "GET, HEAD", run_models},
    {"/get_model_info", "GET, HEAD", run_model_info},
    {"/model_info", "GET, HEAD", run_model_info},
    {"/get_server_info", "GET, HEAD", run_server_info},
    {"/server_info", "GET, HEAD", run_server_info},
    {"/get_load", "GET, HEAD", run_load},
    {"/v1/loads", "GET, HEAD", run_load},
    {"/metrics", "GET, HEAD", run_metrics},
    {"/health", "GET, HEAD", run_health, false, false, true},
    {"/health_generate", "GET, HEAD", run_health, false, false, true},
    {"/ready", "GET, HEAD", run_ready, false, false, true},
    {"/ping", "GET, HEAD", run_ping, false, false, true},
    {"/", "GET, HEAD", run_root, false, false, true},
    {"/flush_cache", "GET, POST", run_flush, true},
    {"/abort_request", "POST", run_abort, true, true, false, kJson},
});
constexpr Route kModelRoute{"/v1/models/", "GET, HEAD", run_model};

/// Routes of the reference that this version refuses by name.
struct Unbuilt {
  std::string_view prefix;
  std::string_view feature;
};
constexpr Unbuilt kUnbuilt[] = {
    {"/v1/responses", "the Responses API"},
    {"/v1/messages", "the Anthropic API"},
    {"/api/", "the Ollama API"},
    {"/v1/embeddings", "embedding"},
    {"/encode", "embedding"},
    {"/v1/score", "scoring"},
    {"/v1/rerank", "reranking"},
    {"/load_lora_adapter", "LoRA adapters"},
    {"/unload_lora_adapter", "LoRA adapters"},
    {"/update_weights_from_disk", "changing weights while serving"},
    {"/pause_generation", "pausing"},
    {"/continue_generation", "pausing"},
    {"/release_memory_occupation", "sleep mode"},
    {"/resume_memory_occupation", "sleep mode"},
    {"/sleep", "sleep mode"},
    {"/wake_up", "sleep mode"},
    {"/is_sleeping", "sleep mode"},
    {"/open_session", "sessions"},
    {"/close_session", "sessions"},
    {"/save_kv", "saving the KV cache"},
    {"/restore_kv", "saving the KV cache"},
    {"/start_profile", "profiling"},
    {"/stop_profile", "profiling"},
    {"/configure_logging", "changing the logging while serving"},
    {"/slow_down", "slowing down"},
    {"/pd_role_switch", "prefill/decode disaggregation"},
    {"/separate_reasoning", "reasoning parsing"},
    {"/parse_function_call", "tool calling"},
};

const Route* find_route(std::string_view path) {
  const auto found = std::ranges::find(kRoutes, path, &Route::path);
  if (found != kRoutes.end()) return &*found;
  const bool model = path.starts_with(kModelRoute.path) && path.size() > kModelRoute.path.size();
  return model ? &kModelRoute : nullptr;
}

bool allows(std::string_view methods, std::string_view method) {
  while (!methods.empty()) {
    const size_t comma = methods.find(", ");
    if (methods.substr(0, comma) == method) return true;
    methods = comma == std::string_view::npos ? std::string_view{} : methods.substr(comma + 2);
  }
  return false;
}

/// No Content-Type counts as JSON: many hand-written clients send none.
bool is_json(std::string_view content_type) {
  std::string_view type = content_type.substr(0, content_type.find(';'));
  while (!type.empty() && type.back() == ' ') type.remove_suffix(1);
  return type.empty() || equal_ignoring_case(type, "application/json");
}

HttpResponse no_such_route(std::string_view path) {
  for (const Unbuilt& u : kUnbuilt) {
    const bool below = path.size() == u.prefix.size() || u.prefix.back() == '/' ||
                       (path.size() > u.prefix.size() && path[u.prefix.size()] == '/');
    if (!path.starts_with(u.prefix) || !below) continue;
    return error_response(
        400, fmt::format("{}: {} is not available in this version of erne", u.prefix, u.feature));
  }
  return error_response(404, fmt::format("no route '{}'", path.substr(0, 256)));
}

HttpResponse preflight(const HttpRequest& request) {
  HttpResponse response;
  response.status = 204;
  response.content_type.clear();
  const std::string_view asked = request.header("access-control-request-headers");
  response.headers = {{"Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, OPTIONS"},
                      {"Access-Control-Allow-Headers", asked.empty() ? "*" : std::string(asked)},
                      {"Access-Control-Max-Age", "86400"}};
  return response;
}

}  // namespace

Api::Api(Service& service)
    : service_(service),
      keys_{service.options.api_key, service.options.admin_api_key},
      health_(std::make_shared<Health>(service)) {}

std::optional<HttpResponse> Api::check_head(const HttpRequest& request) {
  if (request.method == "OPTIONS") return preflight(request);
  const Route* route = find_route(request.path);
  if (auto refused = check_key(keys_, request, route != nullptr && route->admin)) return refused;
  if (route == nullptr) return no_such_route(request.path);
  if (!allows(route->methods, request.method)) {
    HttpResponse response =
        error_response(405, fmt::format("{} takes {}, not {}", request.path, route->methods,
                                        request.method.substr(0, 32)));
    response.headers.push_back({"Allow", std::string(route->methods) + ", OPTIONS"});
    return response;
  }
  if (route->takes_json && !is_json(request.header("content-type"))) {
    return error_response(415, fmt::format("Unsupported Media Type: '{}'; send application/json",
                                           request.header("content-type").substr(0, 128)));
  }
  const Phase phase = service_.phase.load();
  if (!route->needs_model || phase == Phase::kReady) return std::nullopt;
  if (phase == Phase::kStarting) return unavailable("starting: the model is loading", 2);
  // While draining, what observes or ends running requests still works.
  if (!route->takes_json || route->admin) return std::nullopt;
  return unavailable("stopping: the server takes no new requests", 5);
}

void Api::handle(HttpRequest request, std::shared_ptr<HttpResponder> responder) {
  const Route* route = find_route(request.path);
  ERNE_CHECK(route != nullptr, "check_head lets only known routes pass: {}", request.path);
  const auto work = [this, route, responder,
                     shared = std::make_shared<const HttpRequest>(std::move(request))] {
    try {
      route->run({service_, *health_, *shared, responder});
    } catch (const std::exception& e) {
      responder->respond(response_of(e, shared->id));
    }
  };
  if (route->on_io) return work();
  service_.handling.fetch_add(1);
  service_.parse_pool.post([this, work] {
    work();
    service_.handling.fetch_sub(1);
  });
}

HttpResponse Api::refuse(int status, std::string_view message) {
  return error_response(status, message);
}

void Api::decorate(const HttpRequest& request, HttpResponse& response) {
  service_.metrics.http_request();
  service_.metrics.http_response(response.status);
  log::debug("{} {} {} {}", request.id, request.method, request.path, response.status);
  const std::string& allowed = service_.options.cors_allowed_origins;
  const std::string_view origin = request.header("origin");
  if (allowed == "*") {
    response.headers.push_back({"Access-Control-Allow-Origin", "*"});
  } else {
    response.headers.push_back({"Vary", "Origin"});
    std::string_view rest = allowed;
    bool match = false;
    while (!rest.empty() && !match) {
      const size_t comma = rest.find(',');
      match = !origin.empty() && rest.substr(0, comma) == origin;
      rest = comma == std::string_view::npos ? std::string_view{} : rest.substr(comma + 1);
    }
    if (match) response.headers.push_back({"Access-Control-Allow-Origin", std::string(origin)});
  }
  response.headers.push_back({"Access-Control-Expose-Headers", "x-request-id, Retry-After"});
}

}  // namespace erne::server
