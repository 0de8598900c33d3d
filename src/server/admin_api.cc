#include "server/admin_api.h"

#include <atomic>
#include <charconv>
#include <memory>

#include "base/json.h"
#include "server/api_error.h"
#include "server/fields.h"

namespace erne::server {
namespace {

constexpr std::chrono::milliseconds kFlushPoll{50};
constexpr double kMaxFlushWait_s = 3600;

using SteadyClock = std::chrono::steady_clock;

/// One waiting client.
struct FlushWait {
  std::shared_ptr<HttpResponder> responder;
  SteadyClock::time_point deadline;
  std::atomic<bool> gone = false;
};

// On a text thread: flush_cache() waits for the engine's step.
void try_flush(Service& service, const std::shared_ptr<FlushWait>& wait) {
  if (wait->gone.load()) return;
  HttpResponse response;
  response.content_type = "text/plain; charset=utf-8";
  if (service.backend.load()->flush_cache()) {
    response.body = "Cache flushed.\n";
    wait->responder->respond(std::move(response));
    return;
  }
  if (SteadyClock::now() < wait->deadline && service.phase.load() == Phase::kReady) {
    service.later(kFlushPoll, [&service, wait] {
      service.parse_pool.post([&service, wait] { try_flush(service, wait); });
    });
    return;
  }
  const EngineStats stats = service.backend.load()->stats();
  response.status = 400;
  response.body = fmt::format(
      "The cache is not flushed: {} requests run and {} wait. Try again when idle, or pass "
      "?timeout=SECONDS.\n",
      stats.running, stats.queued);
  wait->responder->respond(std::move(response));
}

}  // namespace

void flush_cache(Service& service, const HttpRequest& request,
                 const std::shared_ptr<HttpResponder>& responder) {
  double wait_s = 0;
  if (const auto text = query_value(request.query, "timeout")) {
    const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), wait_s);
    if (error != std::errc{} || end != text->data() + text->size() ||
        !(wait_s >= 0 && wait_s <= kMaxFlushWait_s)) {
      refuse_field("timeout", "must be seconds from 0 to {}, got '{}'", kMaxFlushWait_s,
                   text->substr(0, 32));
    }
  }
  const auto wait = std::make_shared<FlushWait>();
  wait->responder = responder;
  wait->deadline =
      SteadyClock::now() + std::chrono::milliseconds(static_cast<int64_t>(wait_s * 1000));
  const std::weak_ptr<FlushWait> weak = wait;
  responder->on_close([weak] {
    if (const auto self = weak.lock()) self->gone.store(true);
  });
  try_flush(service, wait);
}

HttpResponse abort_request(Service& service, const HttpRequest& request) {
  const OrderedJson body = parse_ordered_json(request.body, "request body");
  Fields fields(body, "");
  const bool all = fields.boolean("abort_all").value_or(false);
  const auto rid = fields.string("rid");
  if (!all && !rid) refuse_field("rid", "is required (or abort_all: true)");
  if (!all && rid->empty()) refuse_field("rid", "must not be empty; abort_all ends every request");
  service.live.cancel(all ? std::string_view{} : *rid);
  HttpResponse response;
  response.body = "{}";
  return response;
}

}  // namespace erne::server
