// The API without sockets: requests go into Api as http.cc would hand them over, answers are
// recorded.
#pragma once

#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>

#include "base/json.h"
#include "server/fake_backend.h"
#include "server/routes.h"

namespace erne::server {

class RecordingResponder final : public HttpResponder {
 public:
  void respond(HttpResponse response) override {
    const std::lock_guard lock(mutex_);
    EXPECT_FALSE(done_) << "answered twice";
    response_ = std::move(response);
    done_ = true;
    changed_.notify_all();
  }
  void begin(HttpResponse head) override {
    const std::lock_guard lock(mutex_);
    response_ = std::move(head);
  }
  void write(std::string bytes) override {
    const std::lock_guard lock(mutex_);
    response_.body += bytes;
    changed_.notify_all();
  }
  void end() override {
    const std::lock_guard lock(mutex_);
    done_ = true;
    changed_.notify_all();
  }
  bool full() const override { return false; }
  void on_close(std::function<void()> callback) override {
    const std::lock_guard lock(mutex_);
    close_ = std::move(callback);
  }
  void on_drain(std::function<void()>) override {}

  HttpResponse wait() {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::seconds(20), [this] { return done_; }))
        << "no answer";
    return response_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  HttpResponse response_;
  std::function<void()> close_;
  bool done_ = false;
};

class ApiFixture : public ::testing::Test {
 protected:
  ~ApiFixture() override {
    if (!service_) return;
    backend_->set_encode_held(false);
    service_->parse_pool.stop();
    service_->control_pool.stop();
    backend_.reset();  // ends what still runs
    service_->format_pool.stop();
  }

  /// Before the first call, where a test wants other options.
  void start(ServerOptions options) {
    options.model_path = options.tokenizer_path = "models/m";
    if (options.served_model_name.empty()) options.served_model_name = "m";
    service_ = std::make_unique<Service>(std::move(options));
    service_->later = [](std::chrono::milliseconds, std::function<void()>) {};
    service_->num_connections = service_->num_busy = [] { return size_t{1}; };
    service_->attach(*backend_);
    api_ = std::make_unique<Api>(*service_);
  }

  std::shared_ptr<RecordingResponder> send(const std::string& method, const std::string& target,
                                           const std::string& body,
                                           std::vector<Header> headers = {}) {
    if (!service_) start({});
    HttpRequest request;
    request.method = method;
    const size_t mark = target.find('?');
    request.path = target.substr(0, mark);
    if (mark != std::string::npos) request.query = target.substr(mark + 1);
    request.headers = std::move(headers);
    request.has_body = !body.empty();
    request.id = "test-id";
    const auto responder = std::make_shared<RecordingResponder>();
    if (auto refused = api_->check_head(request)) {
      responder->respond(std::move(*refused));
    } else {
      request.body = body;
      api_->handle(std::move(request), responder);
    }
    return responder;
  }
  HttpResponse call(const std::string& method, const std::string& target,
                    const std::string& body = {}, std::vector<Header> headers = {}) {
    return send(method, target, body, std::move(headers))->wait();
  }
  HttpResponse post(const std::string& path, const std::string& body) {
    return call("POST", path, body);
  }
  OrderedJson error_of(const HttpResponse& response) {
    return parse_ordered_json(response.body, "answer").at("error");
  }
  static std::string header_of(const HttpResponse& response, const std::string& name) {
    for (const Header& h : response.headers) {
      if (h.name == name) return h.value;
    }
    return {};
  }

  std::unique_ptr<FakeBackend> backend_ = std::make_unique<FakeBackend>();
  std::unique_ptr<Service> service_;
  std::unique_ptr<Api> api_;
};

}  // namespace erne::server
