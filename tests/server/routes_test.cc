// Routes, methods, keys, CORS, probes and metrics.
#include "server/api_fixture.h"
#include "server/http_text.h"

namespace erne::server {
namespace {

class Routes : public ApiFixture {};

TEST_F(Routes, UnknownRouteMethodAndType) {
  EXPECT_EQ(call("GET", "/nope").status, 404);
  EXPECT_EQ(error_of(call("GET", "/nope")).at("type"), "NotFoundError");
  const HttpResponse wrong = call("GET", "/v1/chat/completions");
  EXPECT_EQ(wrong.status, 405);
  EXPECT_EQ(header_of(wrong, "Allow"), "POST, OPTIONS");
  EXPECT_EQ(call("POST", "/v1/completions", "a=b", {{"Content-Type", "text/plain"}}).status, 415);
  EXPECT_EQ(call("POST", "/v1/completions", R"({"prompt":"a"})",
                 {{"content-type", "Application/JSON; charset=utf-8"}})
                .status,
            200);
  EXPECT_EQ(call("PUT", "/generate", R"({"text":"a"})").status, 200);
  EXPECT_EQ(call("OPTIONS", "/v1/completions").status, 204);
}

TEST_F(Routes, FormTypeIsToldTheHeader) {
  const HttpResponse response = call("POST", "/v1/chat/completions", "{}",
                                     {{"Content-Type", "application/x-www-form-urlencoded"}});
  EXPECT_EQ(response.status, 415);
  EXPECT_NE(response.body.find("-H 'Content-Type: application/json'"), std::string::npos);
}

TEST_F(Routes, StatsAndAbortsDoNotWaitForTokenizing) {
  ServerOptions options;
  options.enable_metrics = true;
  start(options);
  backend_->set_held(true);
  const auto running = send("POST", "/v1/completions", R"({"rid":"r","prompt":"a"})");
  ASSERT_TRUE(backend_->wait_live(1));
  backend_->set_encode_held(true);
  const auto huge = send("POST", "/v1/completions", R"({"prompt":"huge"})");
  for (const char* path :
       {"/metrics", "/get_load", "/v1/models", "/v1/models/m", "/server_info", "/get_model_info"}) {
    EXPECT_EQ(call("GET", path).status, 200) << path;
  }
  EXPECT_EQ(post("/abort_request", R"({"rid":"r"})").status, 200);
  EXPECT_EQ(running->wait().status, 503);
  backend_->set_encode_held(false);
  backend_->set_held(false);
  EXPECT_EQ(huge->wait().status, 200);
}

TEST_F(Routes, TextThatCannotFitIsRefusedBeforeTokenizing) {
  start({});
  const std::string text(4 * 1001, 'x');  // the longest token has 4 bytes, the context 1000 tokens
  for (const auto& [path, body] : std::vector<std::pair<std::string, std::string>>{
           {"/v1/completions", R"({"prompt":")" + text + "\"}"},
           {"/v1/completions", R"({"prompt":["a",")" + text + "\"]}"},
           {"/generate", R"({"text":")" + text + "\"}"},
           {"/v1/chat/completions",
            R"({"messages":[{"role":"user","content":")" + text + "\"}]}"}}) {
    const HttpResponse response = post(path, body);
    EXPECT_EQ(response.status, 400) << path;
    EXPECT_EQ(error_of(response).at("code"), "context_length_exceeded");
    EXPECT_NE(response.body.find("maximum context length is 1000 tokens"), std::string::npos);
  }
  EXPECT_EQ(backend_->encoded(), 0);
  EXPECT_EQ(post("/tokenize", R"({"prompt":")" + text + "\"}").status, 200);  // may be any size
}

TEST_F(Routes, OneFailureEndsTheOtherChoicesAndPrompts) {
  start({});
  backend_->set_held(true);
  for (const char* body : {R"({"prompt":["a","b"],"n":2})", R"({"prompt":"a","n":4})",
                           R"({"prompt":["a","b"],"n":2,"stream":true})"}) {
    const uint64_t before = backend_->aborted();
    backend_->set_fail_next();
    const HttpResponse response = post("/v1/completions", body);
    EXPECT_TRUE(backend_->wait_live(0)) << body;
    EXPECT_EQ(backend_->aborted(), before + 3) << body;
    const bool stream = response.content_type == "text/event-stream";
    EXPECT_EQ(response.status, stream ? 200 : 500) << body;
    EXPECT_NE(response.body.find("the first choice fails"), std::string::npos) << response.body;
    EXPECT_NE(response.body.find("\"code\":500"), std::string::npos) << response.body;
  }
}

TEST_F(Routes, UnbuiltRoutesAreNamed) {
  for (const char* path : {"/v1/responses", "/v1/messages/count_tokens", "/api/chat",
                           "/v1/embeddings", "/open_session"}) {
    const HttpResponse response = call("POST", path, "{}");
    EXPECT_EQ(response.status, 400) << path;
    EXPECT_NE(response.body.find("not available in this version"), std::string::npos) << path;
  }
  EXPECT_EQ(call("GET", "/sleepy").status, 404);
}

TEST_F(Routes, Models) {
  const OrderedJson list = parse_ordered_json(call("GET", "/v1/models").body, "models");
  EXPECT_EQ(list["data"][0]["id"], "m");
  EXPECT_EQ(list["data"][0]["owned_by"], "erne");
  EXPECT_EQ(list["data"][0]["max_model_len"], 1000);
  EXPECT_EQ(call("GET", "/v1/models/m").status, 200);
  EXPECT_EQ(call("GET", "/v1/models/models%2Fm").status, 200);
  EXPECT_EQ(call("GET", "/v1/models/other").status, 404);
  EXPECT_EQ(call("GET", "/v1/models/%zz").status, 400);
  EXPECT_EQ(post("/v1/completions", R"({"prompt":"a","model":"m:adapter"})").status, 404);
}

TEST_F(Routes, StrictModelName) {
  ServerOptions options;
  options.strict_model_name = true;
  start(options);
  EXPECT_EQ(post("/v1/completions", R"({"prompt":"a","model":"gpt-4"})").status, 404);
  EXPECT_EQ(post("/v1/completions", R"({"prompt":"a","model":"m"})").status, 200);
  EXPECT_EQ(post("/v1/completions", R"({"prompt":"a"})").status, 200);
}

TEST_F(Routes, Keys) {
  ServerOptions options;
  options.api_key = "secret";
  options.admin_api_key = "root";
  start(options);
  const Header user{"Authorization", "bEaReR secret"};
  const Header admin{"authorization", "Bearer root"};
  EXPECT_EQ(call("GET", "/v1/models").status, 401);
  EXPECT_EQ(error_of(call("GET", "/v1/models")).at("type"), "AuthenticationError");
  EXPECT_EQ(call("GET", "/v1/models", "", {{"Authorization", "Bearer secre"}}).status, 401);
  EXPECT_EQ(call("GET", "/v1/models", "", {{"Authorization", "Basic secret"}}).status, 401);
  EXPECT_EQ(call("GET", "/v1/models", "", {user}).status, 200);
  EXPECT_EQ(call("GET", "/v1/models", "", {admin}).status, 401);
  EXPECT_EQ(call("POST", "/flush_cache", "", {user}).status, 403);
  EXPECT_EQ(call("POST", "/flush_cache").status, 401);
  EXPECT_EQ(call("POST", "/flush_cache", "", {admin}).status, 200);
  EXPECT_EQ(call("GET", "/ready").status, 200);
  EXPECT_EQ(call("OPTIONS", "/v1/models").status, 204);
  EXPECT_EQ(call("GET", "/nope").status, 401);
}

TEST(Auth, ComparesInFull) {
  EXPECT_TRUE(equal_in_constant_time("abc", "abc"));
  EXPECT_FALSE(equal_in_constant_time("abcabc", "abc"));
  EXPECT_FALSE(equal_in_constant_time("", "abc"));
  EXPECT_FALSE(equal_in_constant_time("a", ""));
  EXPECT_EQ(bearer_key("Bearer  x"), "x");
  EXPECT_EQ(bearer_key("Bearer"), std::nullopt);
}

TEST_F(Routes, Phases) {
  start({});
  service_->phase.store(Phase::kStarting);
  EXPECT_EQ(call("GET", "/health").status, 503);
  EXPECT_EQ(call("GET", "/ready").body, R"({"status":"starting"})");
  EXPECT_EQ(call("GET", "/ping").status, 200);
  EXPECT_NE(header_of(post("/v1/completions", R"({"prompt":"a"})"), "Retry-After"), "");
  service_->phase.store(Phase::kReady);
  EXPECT_EQ(call("GET", "/health").status, 200);
  EXPECT_EQ(call("GET", "/health_generate").status, 200);
  EXPECT_EQ(call("GET", "/ready").status, 200);
  service_->phase.store(Phase::kDraining);
  EXPECT_EQ(call("GET", "/health").status, 503);
  EXPECT_EQ(call("GET", "/ready").status, 503);
  EXPECT_EQ(post("/v1/completions", R"({"prompt":"a"})").status, 503);
  EXPECT_EQ(call("GET", "/get_load").status, 200);
  EXPECT_EQ(post("/abort_request", R"({"abort_all":true})").status, 200);
}

TEST_F(Routes, NotReadyWhileTooManyTokensWait) {
  ServerOptions options;
  options.max_queued_tokens = 1000;
  start(std::move(options));
  backend_->set_queued(5, 999);
  EXPECT_EQ(call("GET", "/ready").status, 200);
  backend_->set_queued(1, 1000);
  EXPECT_EQ(call("GET", "/ready").body, R"({"status":"queue full"})");
}

TEST_F(Routes, NotReadyWhileTheQueueIsFull) {
  ServerOptions options;
  options.max_queued_requests = 3;
  start(std::move(options));
  backend_->set_queued(2);
  EXPECT_EQ(call("GET", "/ready").status, 200);
  backend_->set_queued(3);
  const HttpResponse full = call("GET", "/ready");
  EXPECT_EQ(full.status, 503);
  EXPECT_EQ(full.body, R"({"status":"queue full"})");
  EXPECT_EQ(call("GET", "/ping").status, 200);
}

TEST_F(Routes, NeitherHealthyNorReadyOnALostDevice) {
  backend_->set_fault("the GPU failed");
  const HttpResponse health = call("GET", "/health");
  EXPECT_EQ(health.status, 503);
  EXPECT_NE(health.body.find("the GPU failed"), std::string::npos) << health.body;
  EXPECT_EQ(call("GET", "/ready").status, 503);
  EXPECT_EQ(call("GET", "/ready").body, R"({"status":"device failed"})");
}

TEST_F(Routes, ProbesAreHidden) {
  EXPECT_EQ(call("GET", "/health").status, 200);
  EXPECT_TRUE(backend_->last().hidden);
  EXPECT_EQ(post("/v1/completions", R"({"prompt":"a"})").status, 200);
  EXPECT_FALSE(backend_->last().hidden);
}

TEST_F(Routes, RequestsThatEndWhileStoppingAreRefused) {
  start({});
  const auto late = [&](const std::string& path) {
    HttpRequest request;  // check_head let it pass before the stop
    request.method = "POST";
    request.path = path;
    request.body = R"({"prompt":"a","text":"a","rid":"none"})";
    const auto responder = std::make_shared<RecordingResponder>();
    api_->handle(std::move(request), responder);
    return responder->wait();
  };
  service_->phase.store(Phase::kDraining);
  for (const char* path : {"/v1/completions", "/v1/chat/completions", "/generate", "/tokenize"}) {
    const HttpResponse response = late(path);
    EXPECT_EQ(response.status, 503) << path;
    EXPECT_NE(header_of(response, "Retry-After"), "") << path;
  }
  EXPECT_EQ(late("/abort_request").status, 200);
  service_->control_pool.stop();
  EXPECT_EQ(call("GET", "/v1/models").status, 503);
  EXPECT_EQ(service_->handling.load(), 0);
}

TEST_F(Routes, Root) {
  EXPECT_EQ(call("GET", "/").body, "Ollama is running");
  const HttpResponse page = call("GET", "/", "", {{"Accept", "text/html,*/*"}});
  EXPECT_TRUE(page.content_type.starts_with("text/html"));
  EXPECT_NE(page.body.find("<html"), std::string::npos);
  EXPECT_EQ(call("HEAD", "/").status, 200);
}

TEST_F(Routes, RootWithoutPage) {
  ServerOptions options;
  options.web_ui = false;
  start(options);
  EXPECT_EQ(call("GET", "/", "", {{"Accept", "text/html"}}).body, "Ollama is running");
}

TEST_F(Routes, Cors) {
  ServerOptions options;
  options.cors_allowed_origins = "https://a.example,https://b.example";
  start(options);
  HttpRequest request;
  request.headers = {{"Origin", "https://b.example"}};
  HttpResponse response;
  api_->decorate(request, response);
  EXPECT_EQ(header_of(response, "Access-Control-Allow-Origin"), "https://b.example");
  request.headers = {{"Origin", "https://evil.example"}};
  HttpResponse other;
  api_->decorate(request, other);
  EXPECT_EQ(header_of(other, "Access-Control-Allow-Origin"), "");
}

TEST_F(Routes, MetricsAgreeWithUsage) {
  ServerOptions options;
  options.enable_metrics = true;
  start(options);
  post("/v1/completions", R"({"prompt":"abc","n":2,"max_tokens":4})");
  post("/v1/chat/completions",
       R"({"messages":[{"role":"user","content":"hi"}],"stream":true,"max_tokens":3})");
  post("/v1/completions", R"({"prompt":"abc","n":0})");  // refused: not a request
  const std::string text = call("GET", "/metrics").body;
  const auto has = [&](const std::string& line) {
    return text.find(line + "\n") != std::string::npos;
  };
  EXPECT_TRUE(has(R"(sglang:prompt_tokens_total{model_name="m"} 23)")) << text;
  EXPECT_TRUE(has(R"(sglang:generation_tokens_total{model_name="m"} 11)"));
  EXPECT_TRUE(has(R"(sglang:num_requests_total{model_name="m"} 2)"));
  EXPECT_TRUE(has(R"(sglang:time_to_first_token_seconds_count{model_name="m"} 2)"));
  EXPECT_TRUE(has(R"(sglang:e2e_request_latency_seconds_count{model_name="m"} 2)"));
  EXPECT_NE(text.find("sglang:max_total_num_tokens"), std::string::npos);
  EXPECT_EQ(text.find("is_cuda_graph"), std::string::npos);  // nothing that is not there
  for (const char* stage : {"tokenize", "prefill_waiting", "prefill_forward", "decode_loop"}) {
    EXPECT_TRUE(has(R"(sglang:per_stage_req_latency_seconds_count{dp_rank="0",)"
                    R"(engine_type="unified",model_name="m",pp_rank="0",stage=")" +
                    std::string(stage) + R"(",tp_rank="0"} 2)"))
        << stage;
  }
}

TEST_F(Routes, MetricsAreOffByDefault) { EXPECT_EQ(call("GET", "/metrics").status, 404); }

TEST_F(Routes, Info) {
  const OrderedJson info = parse_ordered_json(call("GET", "/get_model_info").body, "info");
  EXPECT_EQ(info["model_type"], "ernie4_5");
  EXPECT_EQ(info["is_generation"], true);
  const OrderedJson server = parse_ordered_json(call("GET", "/server_info").body, "info");
  EXPECT_EQ(server["internal_states"][0]["memory_usage"]["token_capacity"], 4096);
  EXPECT_EQ(parse_ordered_json(call("GET", "/v1/loads").body, "load")[0]["num_reqs"], 0);
}

TEST(HttpText, Ids) {
  EXPECT_EQ(request_id("abc-1"), "abc-1");
  EXPECT_EQ(request_id("a b").size(), 32U);
  EXPECT_EQ(request_id(std::string(129, 'x')).size(), 32U);
  EXPECT_NE(fresh_id(), fresh_id());
  EXPECT_EQ(query_value("a=1&b=x%20y&c", "b"), "x y");
  EXPECT_EQ(query_value("a=1&c", "c"), "");
  EXPECT_EQ(query_value("a=1", "d"), std::nullopt);
}

}  // namespace
}  // namespace erne::server
