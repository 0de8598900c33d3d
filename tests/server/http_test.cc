// The whole server over real sockets, with a scripted engine: limits, keep-alive, slow and
// vanishing clients.
#include <gtest/gtest.h>

#include <thread>

#include "server/fake_backend.h"
#include "server/raw_client.h"
#include "server/server.h"

namespace erne::server {
namespace {

using namespace std::chrono_literals;

std::string post(const std::string& path, const std::string& body, const std::string& more = "") {
  return "POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + more +
         "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}
const std::string kGet = "GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n";
const std::string kPrompt = R"({"prompt":"a"})";
const std::string kStream = R"({"prompt":"a","stream":true,"max_tokens":900})";

class Http : public ::testing::Test {
 protected:
  ~Http() override {
    backend_.set_held(false);
    if (server_) server_->stop();
  }
  void start(HttpOptions http = {}) {
    ServerOptions options;
    options.http = http;
    options.served_model_name = options.model_path = "m";
    server_ = std::make_unique<Server>(options);
    server_->attach(backend_);
  }
  uint16_t port() {
    if (!server_) start();
    return server_->port();
  }
  /// Waits for what other threads are about to do; false after 10 s.
  template <typename Condition>
  static bool eventually(Condition condition) {
    for (int i = 0; i < 2000; ++i) {
      if (condition()) return true;
      std::this_thread::sleep_for(5ms);
    }
    return false;
  }
  void expect_works() {
    RawClient client(port());
    client.send(post("/v1/completions", kPrompt));
    EXPECT_TRUE(client.take_answer().starts_with("HTTP/1.1 200"));
  }

  FakeBackend backend_;
  std::unique_ptr<Server> server_;
};

TEST_F(Http, AnswersCarryIdDateAndLength) {
  RawClient client(port());
  client.send("GET /v1/models HTTP/1.1\r\nX-Request-Id: my-id\r\n\r\n");
  const std::string answer = client.take_answer();
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 200 OK\r\n")) << answer;
  EXPECT_NE(answer.find("x-request-id: my-id\r\n"), std::string::npos);
  EXPECT_NE(answer.find("\r\nDate: "), std::string::npos);
  EXPECT_NE(answer.find("Access-Control-Allow-Origin: *\r\n"), std::string::npos);
}

TEST_F(Http, KeepAliveAndPipelining) {
  RawClient client(port());
  client.send(kGet + post("/v1/completions", kPrompt) + kGet + post("/v1/completions", "{") + kGet);
  const char* expected[] = {"HTTP/1.1 200", "HTTP/1.1 200", "HTTP/1.1 200", "HTTP/1.1 400",
                            "HTTP/1.1 200"};
  for (const char* status : expected) EXPECT_TRUE(client.take_answer().starts_with(status));
}

TEST_F(Http, PipelinedBehindAStream) {
  RawClient client(port());
  client.send(post("/v1/completions", R"({"prompt":"a","stream":true})") + kGet);
  ASSERT_TRUE(client.read_until("data: [DONE]\n\n\r\n0\r\n\r\n"));
  EXPECT_TRUE(client.read_until("\"object\":\"list\""));
}

TEST_F(Http, BytesOneByOne) {
  RawClient client(port());
  for (const char c : post("/v1/completions", kPrompt)) ASSERT_TRUE(client.send({&c, 1}));
  EXPECT_TRUE(client.take_answer().starts_with("HTTP/1.1 200"));
}

TEST_F(Http, ChunkedBody) {
  RawClient client(port());
  client.send("POST /v1/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
  client.send("5\r\n{\"pro\r\n");
  client.send("9\r\nmpt\":\"a\"}\r\n0\r\n\r\n");
  EXPECT_TRUE(client.take_answer().starts_with("HTTP/1.1 200"));
}

TEST_F(Http, ConnectionCloseAndOldProtocol) {
  RawClient one(port());
  one.send("GET /v1/models HTTP/1.1\r\nConnection: close\r\n\r\n");
  EXPECT_NE(one.read_all().find("Connection: close"), std::string::npos);
  RawClient two(port());
  two.send(
      "POST /v1/completions HTTP/1.0\r\nContent-Length: "
      "28\r\n\r\n{\"prompt\":\"a\",\"stream\":true}");
  const std::string answer = two.read_all();
  EXPECT_EQ(answer.find("Transfer-Encoding"), std::string::npos);
  EXPECT_TRUE(answer.ends_with("data: [DONE]\n\n"));
}

TEST_F(Http, HeadHasNoBody) {
  RawClient client(port());
  client.send("HEAD / HTTP/1.1\r\n\r\n" + kGet);
  ASSERT_TRUE(client.read_until("\"object\":\"list\""));
  EXPECT_EQ(client.received().find("Ollama"), std::string::npos);
}

TEST_F(Http, ExpectContinue) {
  RawClient client(port());
  const std::string whole = post("/v1/completions", kPrompt, "Expect: 100-continue\r\n");
  const size_t head = whole.find("\r\n\r\n") + 4;
  client.send(whole.substr(0, head));
  ASSERT_TRUE(client.read_until("HTTP/1.1 100 Continue\r\n\r\n"));
  client.send(whole.substr(head));
  EXPECT_TRUE(client.read_until("HTTP/1.1 200"));
}

TEST_F(Http, NonsenseIs400AndLargeHeaders431) {
  RawClient client(port());
  client.send("this is no request\r\n\r\n");
  EXPECT_TRUE(client.read_all().starts_with("HTTP/1.1 400"));
  RawClient big(port());
  big.send("GET / HTTP/1.1\r\nX: " + std::string(70'000, 'x') + "\r\n\r\n");
  EXPECT_TRUE(big.read_all().starts_with("HTTP/1.1 431"));
  RawClient smuggler(port());
  smuggler.send(
      "POST /v1/completions HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\n{}");
  EXPECT_TRUE(smuggler.read_all().starts_with("HTTP/1.1 400"));
  expect_works();
}

TEST_F(Http, LargeBodyIsRefusedBeforeItIsRead) {
  HttpOptions options;
  options.max_body_bytes = 1000;
  start(options);
  RawClient client(port());
  client.send("POST /v1/completions HTTP/1.1\r\nContent-Length: 100000000\r\n\r\n");
  EXPECT_TRUE(client.take_answer().starts_with("HTTP/1.1 413"));  // no byte of the body was sent
  RawClient pusher(port());
  pusher.send(
      post("/v1/completions", std::string(20'000'000, ' ')));  // a client that sends all first
  EXPECT_TRUE(pusher.take_answer().starts_with("HTTP/1.1 413"));
  RawClient chunks(port());
  chunks.send("POST /v1/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
  const std::string chunk = "400\r\n" + std::string(1024, ' ') + "\r\n";
  for (int i = 0; i < 4; ++i) chunks.send(chunk);
  EXPECT_TRUE(chunks.take_answer().starts_with("HTTP/1.1 413"));
  expect_works();
}

TEST_F(Http, TenMegabytesOfJson) {
  RawClient client(port());
  client.send(post("/v1/completions", R"({"prompt":")" + std::string(10'000'000, 'x') + "\"}"));
  EXPECT_TRUE(client.take_answer().starts_with(
      "HTTP/1.1 400"));  // read, tokenized, longer than the context
  expect_works();
}

TEST_F(Http, SlowHeaderIs408AndSlowBodyToo) {
  HttpOptions options;
  options.header_timeout = 100ms;
  start(options);
  RawClient header(port());
  header.send("GET /v1/mod");
  EXPECT_TRUE(header.read_all().starts_with("HTTP/1.1 408"));
  RawClient body(port());
  body.send("POST /v1/completions HTTP/1.1\r\nContent-Length: 100\r\n\r\n{");
  EXPECT_TRUE(body.read_all().starts_with("HTTP/1.1 408"));
  RawClient silent(port());
  EXPECT_EQ(silent.read_all(), "");  // closed without a word
  expect_works();
}

TEST_F(Http, PingWhileNothingIsSaid) {
  HttpOptions options;
  options.ping_interval = 20ms;
  start(options);
  backend_.set_held(true);
  RawClient client(port());
  client.send(post("/v1/completions", kStream));
  EXPECT_TRUE(client.read_until(": ping\n\n"));
  backend_.set_held(false);
  EXPECT_TRUE(client.read_until("data: [DONE]"));
}

TEST_F(Http, VanishedClientsAreCancelled) {
  port();
  backend_.set_held(true);
  for (const std::string& body : {kStream, kPrompt}) {
    const uint64_t before = backend_.aborted();
    RawClient client(port());
    client.send(post("/v1/completions", body));
    ASSERT_TRUE(backend_.wait_live(1));
    client.close();
    EXPECT_TRUE(backend_.wait_live(0));
    EXPECT_EQ(backend_.aborted(), before + 1);
  }
  EXPECT_TRUE(eventually([&] { return server_->service().live.size() == 0; }));
  backend_.set_held(false);
  expect_works();
}

TEST_F(Http, VanishedClientIsNoticedBehindPipelinedBytes) {
  port();
  backend_.set_held(true);
  RawClient client(port());
  ASSERT_TRUE(client.send(post("/v1/completions", kStream) +
                          post("/v1/completions", std::string(300'000, ' '))));
  ASSERT_TRUE(backend_.wait_live(1));
  client.close();
  EXPECT_TRUE(backend_.wait_live(0));
  EXPECT_EQ(backend_.aborted(), 1U);
}

TEST_F(Http, TooMuchBehindARunningAnswerCloses) {
  port();
  backend_.set_held(true);
  RawClient client(port());
  client.send(post("/v1/completions", kStream));
  ASSERT_TRUE(backend_.wait_live(1));
  client.send(post("/v1/completions", std::string(20'000'000, ' ')));
  EXPECT_TRUE(backend_.wait_live(0));
  EXPECT_EQ(backend_.aborted(), 1U);
  backend_.set_held(false);
  expect_works();
}

TEST_F(Http, LargeRequestBehindAnAnswerIsAnswered) {
  port();
  backend_.set_held(true);
  RawClient client(port());
  ASSERT_TRUE(client.send(post("/v1/completions", kPrompt) +
                          post("/v1/completions", kPrompt + std::string(300'000, ' '))));
  ASSERT_TRUE(backend_.wait_live(1));
  backend_.set_held(false);
  EXPECT_TRUE(client.take_answer().starts_with("HTTP/1.1 200"));
  EXPECT_TRUE(client.take_answer().starts_with("HTTP/1.1 200"));
}

TEST_F(Http, VanishedClientCancelsOnlyItself) {
  port();
  backend_.set_held(true);
  RawClient stays(port());
  stays.send(post("/v1/completions", R"({"rid":"ab","prompt":"a"})"));
  ASSERT_TRUE(backend_.wait_live(1));
  RawClient goes(port());
  goes.send(post("/v1/completions", R"({"rid":"a","prompt":"a","n":3})"));
  ASSERT_TRUE(backend_.wait_live(2));
  goes.close();
  EXPECT_TRUE(backend_.wait_live(1));
  backend_.set_held(false);
  EXPECT_TRUE(stays.take_answer().starts_with("HTTP/1.1 200"));
}

TEST_F(Http, ClientThatDoesNotReadIsDropped) {
  HttpOptions options;
  options.max_pending_bytes = 4096;
  options.stall_timeout = 100ms;
  start(options);
  backend_.set_reply(std::string(900, 'x'));
  RawClient client(port(), 4096);
  // Cumulative /generate events: 900 tokens are 900 * 900 / 2 bytes of text and more of ids, for
  // each of 24 choices: over 25 MB, far more than the kernel's buffers take.
  client.send(
      post("/generate",
           R"({"text":"a","stream":true,"sampling_params":{"n":24,"max_new_tokens":900}})"));
  ASSERT_TRUE(backend_.wait_live(1));
  EXPECT_TRUE(eventually([&] { return server_->service().cancelled_total.load() == 1; }));
  EXPECT_TRUE(backend_.wait_live(0));
  EXPECT_TRUE(eventually([&] { return server_->service().live.size() == 0; }));
  expect_works();
}

// The engine is done and has let go of its sinks long before this client reads: nothing is lost.
TEST_F(Http, ClientThatReadsLateGetsAll) {
  HttpOptions options;
  options.max_pending_bytes = 4096;
  start(options);
  backend_.set_reply(std::string(900, 'x'));
  RawClient client(port());
  client.send(post("/generate",
                   R"({"text":"a","stream":true,"sampling_params":{"n":8,"max_new_tokens":900}})"));
  ASSERT_TRUE(eventually([&] { return server_->service().live.size() == 1; }));
  ASSERT_TRUE(backend_.wait_live(0));
  EXPECT_EQ(server_->service().live.size(), 1U);  // what the kernel did not take waits here
  EXPECT_TRUE(client.read_until("data: [DONE]\n\n"));
  EXPECT_TRUE(eventually([&] { return server_->service().live.size() == 0; }));
}

TEST_F(Http, FlushThatWaitsEndsWithItsClient) {
  port();
  backend_.set_held(true);
  RawClient running(port());
  running.send(post("/v1/completions", kPrompt));
  ASSERT_TRUE(backend_.wait_live(1));
  RawClient stays(port());
  stays.send("POST /flush_cache?timeout=60 HTTP/1.1\r\n\r\n");
  {
    RawClient goes(port());
    goes.send("POST /flush_cache?timeout=60 HTTP/1.1\r\n\r\n");
    ASSERT_TRUE(eventually([&] { return backend_.flushes() >= 4; }));
  }
  ASSERT_TRUE(eventually([&] { return server_->service().num_connections() == 2; }));
  backend_.set_held(false);
  EXPECT_TRUE(stays.take_answer().starts_with("HTTP/1.1 200"));
  EXPECT_TRUE(running.take_answer().starts_with("HTTP/1.1 200"));
  const uint64_t before = backend_.flushes();
  std::this_thread::sleep_for(200ms);  // four retries
  EXPECT_EQ(backend_.flushes(), before);
}

TEST_F(Http, ManyClientsAtOnceSomeVanish) {
  backend_.set_reply(std::string(50, 'y'));
  port();
  std::vector<std::thread> threads;
  std::atomic<int> whole = 0;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 12; ++i) {
        RawClient client(port());
        client.send(post("/v1/completions",
                         (t + i) % 2 == 0 ? kStream : R"({"prompt":"a","max_tokens":60,"n":3})"));
        if (i % 3 == 0) continue;  // goes at once
        if (client.read_until((t + i) % 2 == 0 ? "[DONE]" : "\"usage\"")) whole.fetch_add(1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(whole.load(), 8 * 8);
  EXPECT_TRUE(backend_.wait_live(0));
  EXPECT_TRUE(eventually([&] { return server_->service().live.size() == 0; }));
  EXPECT_TRUE(eventually([&] { return server_->service().num_connections() == 0; }));
}

TEST_F(Http, DrainFinishesWhatRunsAndRefusesTheRest) {
  port();
  backend_.set_held(true);
  RawClient running(port());
  running.send(post("/v1/completions", kPrompt));
  ASSERT_TRUE(backend_.wait_live(1));
  std::thread drain([&] { server_->drain(10s); });
  EXPECT_TRUE(eventually([&] { return server_->service().phase.load() == Phase::kDraining; }));
  RawClient late(port());
  late.send(post("/v1/completions", kPrompt));
  EXPECT_TRUE(late.take_answer().starts_with("HTTP/1.1 503"));
  backend_.set_held(false);
  EXPECT_TRUE(running.take_answer().starts_with("HTTP/1.1 200"));
  drain.join();
}

TEST_F(Http, DrainAbortsWhatOutlivesTheGrace) {
  port();
  backend_.set_held(true);
  RawClient running(port());
  running.send(post("/v1/completions", kStream));
  ASSERT_TRUE(backend_.wait_live(1));
  server_->drain(10ms);
  EXPECT_TRUE(running.read_until("data: [DONE]"));
  EXPECT_TRUE(backend_.wait_live(0));
}

TEST_F(Http, BodyThatEndsWhileDrainingIsRefused) {
  port();
  backend_.set_held(true);
  RawClient running(port());
  running.send(post("/v1/completions", kPrompt));
  ASSERT_TRUE(backend_.wait_live(1));
  RawClient late(port());
  late.send("POST /v1/completions HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 14\r\n\r\n");
  ASSERT_TRUE(late.read_until("100 Continue\r\n\r\n"));  // past check_head
  std::thread drain([&] { server_->drain(10s); });
  EXPECT_TRUE(eventually([&] { return server_->service().phase.load() == Phase::kDraining; }));
  late.send(kPrompt);
  EXPECT_TRUE(late.read_until("HTTP/1.1 503"));
  EXPECT_TRUE(late.read_until("Retry-After: "));
  backend_.set_held(false);
  drain.join();
}

TEST_F(Http, DrainWaitsForASlowReader) {
  backend_.set_reply(std::string(900, 'x'));
  port();
  RawClient client(port(), 4096);
  // The answer is whole at once but larger than what the sockets hold.
  client.send(post("/v1/completions", R"({"prompt":"a","n":100,"max_tokens":900,"logprobs":5})"));
  ASSERT_TRUE(client.read_until("HTTP/1.1 200"));
  ASSERT_TRUE(eventually([&] { return server_->service().live.size() == 0; }));
  std::atomic<bool> drained = false;
  std::thread drain([&] {
    server_->drain(20s);
    drained.store(true);
  });
  std::this_thread::sleep_for(100ms);
  EXPECT_FALSE(drained.load());
  EXPECT_TRUE(client.take_answer().ends_with("}"));
  drain.join();
}

TEST_F(Http, PortInUseIsAnError) {
  HttpOptions options;
  options.port = port();
  ServerOptions second;
  second.http = options;
  EXPECT_THROW(Server{second}, Error);
}

}  // namespace
}  // namespace erne::server
