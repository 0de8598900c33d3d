#include "server/health.h"

#include "server/api_error.h"

namespace erne::server {
namespace {

constexpr double kProgress_s = 20;

}  // namespace

/// Sink of the hidden request: any output is a sign of life.
class Health::Probe final : public OutputSink {
 public:
  explicit Probe(std::shared_ptr<Health> health) : health_(std::move(health)) {}
  void on_output(Output output) override {
    const bool failed = output.finish && output.finish->reason == FinishReason::kError;
    if (output.finish) health_->probe_done(!failed);
  }

 private:
  const std::shared_ptr<Health> health_;
};

void Health::answer(HttpResponder& responder, bool alive) const {
  if (!alive) {
    const std::string fault = service_.backend.load()->stats().fault;
    return responder.respond(
        unavailable(fault.empty() ? "the engine makes no progress" : fault, 5));
  }
  HttpResponse response;
  response.content_type = "text/plain";
  responder.respond(std::move(response));
}

void Health::check(const std::shared_ptr<HttpResponder>& responder) {
  const Phase phase = service_.phase.load();
  if (phase != Phase::kReady) {
    responder->respond(
        unavailable(phase == Phase::kStarting ? "starting: the model is loading" : "stopping", 2));
    return;
  }
  Backend& backend = *service_.backend.load();
  const EngineStats stats = backend.stats();
  if (!stats.fault.empty()) return answer(*responder, false);
  if (stats.running + stats.queued > 0) {
    return answer(*responder, stats.last_step_age_s < kProgress_s);
  }
  uint64_t round = 0;
  {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(responder);
    if (waiting_.size() > 1) return;
    round = ++round_;
  }
  const std::shared_ptr<Health> self = shared_from_this();
  service_.later(std::chrono::milliseconds(static_cast<int>(kProgress_s * 1000)), [self, round] {
    std::unique_lock lock(self->mutex_);
    const bool same = self->round_ == round;
    lock.unlock();
    if (same) self->probe_done(false);  // no-one waits any more if it had answered
  });
  Request request;
  request.prompt_ids = {0};
  request.max_new_tokens = 1;
  request.sampling.temperature = 0;
  request.cache_salt = "\x01health";  // shares nothing with users' prompts
  request.hidden = true;
  try {
    backend.submit(std::move(request), std::make_shared<Probe>(self));
  } catch (const Error& e) {
    probe_done(e.code() == Code::kUnavailable);  // a full queue is a working one
  }
}

void Health::probe_done(bool alive) {
  std::vector<std::shared_ptr<HttpResponder>> waiting;
  {
    const std::lock_guard lock(mutex_);
    waiting.swap(waiting_);
  }
  for (const auto& responder : waiting) answer(*responder, alive);
}

bool Health::queue_is_full() const {
  const auto& requests = service_.options.max_queued_requests;
  const auto& tokens = service_.options.max_queued_tokens;
  if (!requests && !tokens) return false;
  const EngineStats stats = service_.backend.load()->stats();
  return (requests && stats.queued >= *requests) || (tokens && stats.queued_tokens >= *tokens);
}

HttpResponse Health::ready() const {
  const char* reason = nullptr;
  const Phase phase = service_.phase.load();
  if (phase == Phase::kStarting) reason = "starting";
  if (phase == Phase::kDraining) reason = "draining";
  if (phase == Phase::kReady && queue_is_full()) reason = "queue full";
  if (phase == Phase::kReady && !service_.backend.load()->stats().fault.empty())
    reason = "device failed";
  HttpResponse response;
  response.body = R"({"status":"ready"})";
  if (reason == nullptr) return response;
  response.status = 503;
  response.body = fmt::format(R"({{"status":"{}"}})", reason);
  response.headers.push_back({"Retry-After", "1"});
  return response;
}

}  // namespace erne::server
