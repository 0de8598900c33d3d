#include "server/generation.h"

#include <algorithm>
#include <deque>
#include <iterator>
#include <mutex>
#include <numeric>

#include "base/json.h"
#include "base/log.h"
#include "server/api_error.h"

namespace erne::server {
namespace {

using SteadyClock = std::chrono::steady_clock;

/// Worded between two looks at the client's buffer: bounds what a slow reader makes us hold as
/// text.
constexpr size_t kItemsPerWrite = 32;

double seconds(SteadyClock::duration d) { return std::chrono::duration<double>(d).count(); }

class Generation : public std::enable_shared_from_this<Generation> {
 public:
  Generation(Service& service, GenerationPlan plan, std::shared_ptr<HttpResponder> responder)
      : service_(service), plan_(std::move(plan)), responder_(std::move(responder)) {
    for (const Request& request : plan_.requests) {
      prompts_.push_back({request.n,
                          {},
                          0,
                          0,
                          false,
                          std::vector<SteadyClock::time_point>(static_cast<size_t>(request.n)),
                          {},
                          {}});
    }
    open_prompts_ = prompts_.size();
  }

  void start();
  void push(size_t prompt, Output output);

 private:
  struct Prompt {
    int open_choices;
    Usage usage;  // prompt and cached tokens
    int generated;
    int retractions;
    bool aborted;
    std::vector<SteadyClock::time_point> last_output;  // per choice
    SteadyClock::time_point first_token, last_token;
  };
  struct Item {
    size_t prompt;
    Output output;
    SteadyClock::time_point at;  // when the engine told it: a slow reader must not show in metrics
  };

  void submit_all();
  void cancel(const std::string& why);
  void client_gone();
  void schedule(std::unique_lock<std::mutex>& lock);
  void drain();
  void consume(Item item, std::string* events);
  void fail_all(const std::string& message);
  void observe(Prompt& prompt, const Item& item);
  void observe_first(Prompt& prompt, const Item& item);
  void prompt_ended(const Prompt& prompt, SteadyClock::time_point at);
  void finish(std::string& events);
  void fail_answer(int status, const std::string& message, std::string& events);
  void log_end() const;

  Service& service_;
  GenerationPlan plan_;
  const std::shared_ptr<HttpResponder> responder_;

  std::mutex mutex_;
  std::vector<std::string> engine_ids_;  // constant once submitted
  std::deque<Item> queue_;               // bounded by what the request may generate
  bool started_ = false;
  bool scheduled_ = false;  // a drain is posted or runs: drains never overlap
  bool gone_ = false;
  std::string cancel_reason_;
  SteadyClock::time_point submitted_;  // constant once submitted

  // Of the drain only.
  std::vector<Prompt> prompts_;
  size_t open_prompts_ = 0;
  std::optional<std::string> error_;
};

class PromptSink final : public OutputSink {
 public:
  PromptSink(std::shared_ptr<Generation> generation, size_t prompt)
      : generation_(std::move(generation)), prompt_(prompt) {}
  void on_output(Output output) override { generation_->push(prompt_, std::move(output)); }

 private:
  const std::shared_ptr<Generation> generation_;
  const size_t prompt_;
};

void Generation::start() {
  const std::weak_ptr<Generation> weak = weak_from_this();
  const auto cancel = [weak](const char* why) {
    return [weak, why] {
      if (const auto self = weak.lock()) self->cancel(why);
    };
  };
  // This entry owns us until finish(): once the engine has delivered the last output it lets go of
  // the sinks, while what a slow client has not taken yet still waits in queue_.
  const auto abort = [self = shared_from_this()] { self->cancel("cancelled by /abort_request"); };
  if (!service_.live.add(plan_.rid, abort)) {
    throw RequestError(
        Code::kInvalidArgument, "rid",
        fmt::format("rid: '{}' is already in use by a request that still runs", plan_.rid));
  }
  try {
    submit_all();
  } catch (...) {
    service_.live.remove(plan_.rid);
    throw;
  }
  if (plan_.stream) {
    HttpResponse head;
    head.content_type = "text/event-stream";
    head.headers = {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}};
    head.ping = ": ping\n\n";
    responder_->begin(std::move(head));
    responder_->on_drain([weak] {
      const auto self = weak.lock();
      if (!self) return;
      std::unique_lock lock(self->mutex_);
      self->schedule(lock);
    });
  }
  {
    std::unique_lock lock(mutex_);
    started_ = true;
    schedule(lock);
  }
  responder_->on_close([weak] {
    if (const auto self = weak.lock()) self->client_gone();
  });
  if (service_.options.request_timeout_s) {
    const std::chrono::milliseconds limit(
        static_cast<int64_t>(*service_.options.request_timeout_s * 1000));
    service_.later(limit, cancel("the request took longer than --request-timeout-secs"));
  }
}

// The engine aborts by prefix: the closing ';' keeps one request's id from being a prefix of
// another's.
void Generation::submit_all() {
  Backend& backend = *service_.backend.load();
  const auto self = shared_from_this();
  submitted_ = SteadyClock::now();
  const std::string stem = plan_.rid + "/" + fresh_id().substr(0, 8);
  try {
    for (size_t i = 0; i < plan_.requests.size(); ++i) {
      Request& request = plan_.requests[i];
      request.id = fmt::format("{}.{};", stem, i);
      {
        const std::lock_guard lock(mutex_);
        engine_ids_.push_back(request.id);
      }
      backend.submit(std::move(request), std::make_shared<PromptSink>(self, i));
    }
  } catch (...) {
    for (const std::string& id : engine_ids_) backend.abort(id);  // unknown ids are fine
    throw;
  }
  std::unique_lock lock(mutex_);
  if (cancel_reason_.empty()) return;  // else it was cancelled between two prompts
  lock.unlock();
  for (const std::string& id : engine_ids_) backend.abort(id);
}

// Any thread.
void Generation::cancel(const std::string& why) {
  std::vector<std::string> ids;
  {
    const std::lock_guard lock(mutex_);
    if (cancel_reason_.empty()) cancel_reason_ = why;
    ids = engine_ids_;
  }
  Backend& backend = *service_.backend.load();
  for (const std::string& id : ids) backend.abort(id);
}

// The io thread. What still comes from the engine is only counted.
void Generation::client_gone() {
  service_.cancelled_total.fetch_add(1, std::memory_order_relaxed);
  cancel("the client has gone");
  std::unique_lock lock(mutex_);
  gone_ = true;
  schedule(lock);
}

// The engine thread: only moves the output.
void Generation::push(size_t prompt, Output output) {
  std::unique_lock lock(mutex_);
  queue_.push_back({prompt, std::move(output), SteadyClock::now()});
  schedule(lock);
}

void Generation::schedule(std::unique_lock<std::mutex>& lock) {
  if (!started_ || scheduled_ || queue_.empty()) return;
  scheduled_ = true;
  lock.unlock();
  service_.format_pool.post([self = shared_from_this()] { self->drain(); });
}

// A text thread. Stops while the client's buffer is full; on_drain brings it back.
void Generation::drain() {
  for (;;) {
    std::vector<Item> items;
    bool unheard = false;
    {
      const std::lock_guard lock(mutex_);
      unheard = plan_.stream && gone_;
      if (queue_.empty() || (plan_.stream && !gone_ && responder_->full())) {
        scheduled_ = false;
        return;
      }
      const size_t take = std::min(queue_.size(), kItemsPerWrite);
      std::move(queue_.begin(), queue_.begin() + static_cast<std::ptrdiff_t>(take),
                std::back_inserter(items));
      queue_.erase(queue_.begin(), queue_.begin() + static_cast<std::ptrdiff_t>(take));
    }
    std::string events;
    for (Item& item : items) {
      try {
        consume(std::move(item), unheard ? nullptr : &events);
      } catch (const std::exception& e) {
        log::error("request {}: {}", plan_.rid, e.what());
        fail_all("internal error while wording the answer");
      }
    }
    if (open_prompts_ == 0) {
      finish(events);
      const std::lock_guard lock(mutex_);
      return;  // scheduled_ stays set: nothing comes after the end
    }
    if (plan_.stream && !events.empty()) responder_->write(std::move(events));
  }
}

// events null: nobody reads any more, the output is only counted.
void Generation::consume(Item item, std::string* events) {
  Prompt& prompt = prompts_[item.prompt];
  const Output& output = item.output;
  observe(prompt, item);
  const bool last = output.finish && --prompt.open_choices == 0;
  if (output.finish) {
    prompt.aborted = prompt.aborted || output.finish->reason == FinishReason::kAbort;
    if (output.finish->reason == FinishReason::kError) fail_all(output.finish->message);
  }
  if (last) {
    --open_prompts_;
    prompt_ended(prompt, item.at);
  }
  if (events == nullptr) return;
  if (plan_.stream) {
    if (!error_) plan_.format->stream(item.prompt, output, *events);
  } else {
    plan_.format->add(item.prompt, std::move(item.output));
  }
}

/// The answer is an error now whatever else comes: the other choices and prompts need not run.
void Generation::fail_all(const std::string& message) {
  if (error_) return;
  error_ = message;
  cancel("another choice of the request has failed");
}

void Generation::observe(Prompt& prompt, const Item& item) {
  const Output& output = item.output;
  auto& last = prompt.last_output[static_cast<size_t>(output.choice)];
  const int tokens = static_cast<int>(output.token_ids.size());
  if (tokens > 0) {
    if (prompt.usage.prompt_tokens == 0) observe_first(prompt, item);
    if (last != SteadyClock::time_point{})
      service_.metrics.inter_token(seconds(item.at - last), tokens);
    last = prompt.last_token = item.at;
    service_.metrics.generated(tokens);
    prompt.generated += tokens;
  }
  prompt.retractions = std::max(prompt.retractions, output.num_retractions);
}

void Generation::observe_first(Prompt& prompt, const Item& item) {
  const Output& output = item.output;
  prompt.usage = output.usage;
  prompt.first_token = item.at;
  const double in_engine_s = seconds(item.at - submitted_);
  const double queue_s = std::min(output.queue_s, in_engine_s);
  service_.metrics.first_token({output.usage.prompt_tokens, output.usage.cached_tokens,
                                seconds(submitted_ - plan_.received), queue_s,
                                in_engine_s - queue_s});
}

void Generation::prompt_ended(const Prompt& prompt, SteadyClock::time_point at) {
  std::optional<double> decode_s;
  if (prompt.last_token > prompt.first_token)
    decode_s = seconds(prompt.last_token - prompt.first_token);
  service_.metrics.request_ended({prompt.aborted ? Metrics::End::kAborted : Metrics::End::kFinished,
                                  seconds(at - plan_.received), decode_s,
                                  prompt.usage.prompt_tokens, prompt.generated,
                                  prompt.retractions});
}

void Generation::finish(std::string& events) {
  service_.live.remove(plan_.rid);
  log_end();
  const int generated = std::accumulate(prompts_.begin(), prompts_.end(), 0,
                                        [](int sum, const Prompt& p) { return sum + p.generated; });
  const bool aborted = std::ranges::any_of(prompts_, [](const Prompt& p) { return p.aborted; });
  std::string why;
  {
    const std::lock_guard lock(mutex_);
    why = cancel_reason_.empty() ? "the request was cancelled by the server" : cancel_reason_;
  }
  if (error_) {
    fail_answer(500, *error_, events);
  } else if (aborted && generated == 0) {
    fail_answer(503, why, events);
  } else if (!plan_.stream) {
    HttpResponse response;
    response.body = plan_.format->whole();
    responder_->respond(std::move(response));
  } else {
    plan_.format->stream_end(events);
  }
  if (!plan_.stream) return;
  append_event(events, "[DONE]");
  responder_->write(std::move(events));
  responder_->end();
}

void Generation::fail_answer(int status, const std::string& message, std::string& events) {
  if (plan_.stream) {
    append_event(events, error_body(status, message));
    return;
  }
  HttpResponse response = status == 503 ? unavailable(message) : error_response(status, message);
  if (status == 500) response.headers.push_back({"x-should-retry", "false"});
  responder_->respond(std::move(response));
}

void Generation::log_end() const {
  if (!service_.options.log_requests_level) return;
  for (size_t i = 0; i < prompts_.size(); ++i) {
    const Prompt& p = prompts_[i];
    const double e2e_s = seconds(SteadyClock::now() - plan_.received);
    if (service_.options.log_requests_as_json) {
      log::info(
          R"({{"rid":{},"prompt":{},"prompt_tokens":{},"cached_tokens":{},"completion_tokens":{},)"
          R"("aborted":{},"e2e_s":{:.3f}}})",
          dump_json(OrderedJson(plan_.rid)), i, p.usage.prompt_tokens, p.usage.cached_tokens,
          p.generated, p.aborted, e2e_s);
    } else {
      log::info("request {} [{}]: {} prompt tokens ({} cached), {} generated, {}, {:.3f} s",
                plan_.rid, i, p.usage.prompt_tokens, p.usage.cached_tokens, p.generated,
                p.aborted ? "aborted" : "finished", e2e_s);
    }
  }
}

}  // namespace

void start_generation(Service& service, GenerationPlan plan,
                      std::shared_ptr<HttpResponder> responder) {
  std::make_shared<Generation>(service, std::move(plan), std::move(responder))->start();
}

void UsageCount::add(size_t prompt, const Output& output) {
  prompt_[prompt] = output.usage.prompt_tokens;
  cached_[prompt] = output.usage.cached_tokens;
  completion_[prompt * static_cast<size_t>(choices_) + static_cast<size_t>(output.choice)] =
      output.usage.completion_tokens;
}

int UsageCount::prompt_tokens() const { return std::accumulate(prompt_.begin(), prompt_.end(), 0); }
int UsageCount::completion_tokens() const {
  return std::accumulate(completion_.begin(), completion_.end(), 0);
}
int UsageCount::cached_tokens() const { return std::accumulate(cached_.begin(), cached_.end(), 0); }

void append_event(std::string& events, const std::string& data) {
  events += "data: ";
  events += data;
  events += "\n\n";
}

}  // namespace erne::server
