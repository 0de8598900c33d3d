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

/// Where a route runs.
enum class Place {
  kText,     ///< behind the prompts of others: whatever tokenizes
  kControl,  ///< a thread of its own, so that stats and aborts work while a huge prompt is
             ///< tokenized
  kIo,       ///< quick: probes work under any load
};

/// Everything a route needs.
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
  Place place = Place::kText;
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
  response.body = c.service.metrics.text(c.service.backend.load()->stats(), c.service.num_busy());
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
    {"/v1/chat/completions", "POST", run_chat, false, true, Place::kText, kJson},
    {"/v1/completions", "POST", run_completions, false, true, Place::kText, kJson},
    {"/generate", "POST, PUT", run_generate, false, true, Place::kText, kJson},
    {"/tokenize", "POST", run_tokenize, false, true, Place::kText, kJson},
    {"/v1/tokenize", "POST", run_tokenize, false, true, Place::kText, kJson},
    {"/detokenize", "POST", run_detokenize, false, true, Place::kText, kJson},
    {"/v1/detokenize", "POST", run_detokenize, false, true, Place::kText, kJson},
    {"/apply-template", "POST", run_apply_template, false, true, Place::kText, kJson},
    {"/v1/models", "GET, HEAD", run_models, false, true, Place::kControl},
    {"/get_model_info", "GET, HEAD", run_model_info, false, true, Place::kControl},
    {"/model_info", "GET, HEAD", run_model_info, false, true, Place::kControl},
    {"/get_server_info", "GET, HEAD", run_server_info, false, true, Place::kControl},
    {"/server_info", "GET, HEAD", run_server_info, false, true, Place::kControl},
    {"/get_load", "GET, HEAD", run_load, false, true, Place::kControl},
    {"/v1/loads", "GET, HEAD", run_load, false, true, Place::kControl},
    {"/metrics", "GET, HEAD", run_metrics, false, true, Place::kControl},
    {"/health", "GET, HEAD", run_health, false, false, Place::kIo},
    {"/health_generate", "GET, HEAD", run_health, false, false, Place::kIo},
    {"/ready", "GET, HEAD", run_ready, false, false, Place::kIo},
    {"/ping", "GET, HEAD", run_ping, false, false, Place::kIo},
    {"/", "GET, HEAD", run_root, false, false, Place::kIo},
    {"/flush_cache", "GET, POST", run_flush, true},
    {"/abort_request", "POST", run_abort, true, true, Place::kControl, kJson},
});
constexpr Route kModelRoute{"/v1/models/", "GET, HEAD", run_model, false, true, Place::kControl};

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

HttpResponse stopping() { return unavailable("stopping: the server takes no new requests", 5); }

std::optional<HttpResponse> check_phase(const Route& route, Phase phase) {
  if (!route.needs_model || phase == Phase::kReady) return std::nullopt;
  if (phase == Phase::kStarting) return unavailable("starting: the model is loading", 2);
  // While draining, what observes or ends running requests still works.
  if (!route.takes_json || route.admin) return std::nullopt;
  return stopping();
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
    return error_response(
        415, fmt::format("Unsupported Media Type: '{}'; send Content-Type: application/json "
                         "(curl: -H 'Content-Type: application/json')",
                         request.header("content-type").substr(0, 128)));
  }
  return check_phase(*route, service_.phase.load());
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
  if (route->place == Place::kIo) return work();
  // Counted before the phase is read: a drain that begins now waits for us, or we see it. The body
  // may have ended long after check_head.
  service_.handling.fetch_add(1);
  auto refused = check_phase(*route, service_.phase.load());
  TaskPool& pool = route->place == Place::kControl ? service_.control_pool : service_.parse_pool;
  const bool taken = !refused && pool.post([this, work] {
    work();
    service_.handling.fetch_sub(1);
  });
  if (taken) return;
  responder->respond(refused ? std::move(*refused) : stopping());
  service_.handling.fetch_sub(1);
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
