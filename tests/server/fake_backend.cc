#include "server/fake_backend.h"

#include <chrono>
#include <utility>

#include "base/error.h"

namespace erne::server {
namespace {

constexpr const char* kTemplate =
    "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools here') }}{% "
    "endif %}"
    "{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif "
    "%}"
    "{% if mood %}({{ mood }}){% endif %}";

}  // namespace

ByteTokenizer::ByteTokenizer() {
  for (int i = 0; i < 256; ++i) tokens_.push_back(std::string(1, static_cast<char>(i)));
  tokens_.push_back("</s>");
  eos_id_ = kEos;
}

std::vector<int32_t> ByteTokenizer::encode(std::string_view text,
                                           std::span<const ByteRange>) const {
  encoding_.fetch_add(1);
  held_.wait(true);
  std::vector<int32_t> ids;
  for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
  return ids;
}

std::string_view ByteTokenizer::token_bytes(int32_t id) const {
  if (id < 0 || id >= vocab_size())
    fail(Code::kInvalidArgument, "id {} is outside the vocabulary", id);
  return tokens_[static_cast<size_t>(id)];
}

std::string ByteTokenizer::token_name(int32_t id) const { return std::string(token_bytes(id)); }

std::optional<int32_t> ByteTokenizer::find(std::string_view name) const {
  return name == "</s>" ? std::optional(kEos) : std::nullopt;
}

FakeBackend::FakeBackend() : template_(ChatTemplate::parse(kTemplate, "test template")) {
  config_.vocab_size = tokenizer_.vocab_size();
  config_.model_type = "ernie4_5";
  config_.architecture = "Ernie4_5ForCausalLM";
  thread_ = std::thread([this] { run(); });
}

FakeBackend::~FakeBackend() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

std::string FakeBackend::submit(Request request, std::shared_ptr<OutputSink> sink) {
  const std::lock_guard lock(mutex_);
  if (live_.size() >= max_live_)
    fail(Code::kUnavailable, "the queue is full: {} requests wait", live_.size());
  last_ = request;
  Live live{std::move(request), std::move(sink), {}, false, std::exchange(fail_next_, false)};
  for (int i = 0; i < live.request.n; ++i) {
    live.choices.push_back({i, 0, StreamDecoder(tokenizer_, live.request.skip_special_tokens)});
  }
  live_.push_back(std::move(live));
  changed_.notify_all();
  return live_.back().request.id;
}

void FakeBackend::abort(const std::string& prefix) {
  const std::lock_guard lock(mutex_);
  for (Live& live : live_) {
    if (live.request.id.starts_with(prefix)) live.aborted = true;
  }
  changed_.notify_all();
}

bool FakeBackend::flush_cache() {
  flushes_.fetch_add(1);
  const std::lock_guard lock(mutex_);
  return live_.empty();
}

EngineStats FakeBackend::stats() const {
  const std::lock_guard lock(mutex_);
  EngineStats stats;
  stats.running = static_cast<int>(live_.size());
  stats.queued = queued_;
  stats.queued_tokens = queued_tokens_;
  stats.pool_tokens = stats.free_tokens = 4096;
  stats.fault = fault_;
  return stats;
}

void FakeBackend::set_reply(std::string reply) {
  const std::lock_guard lock(mutex_);
  reply_ = std::move(reply);
}

void FakeBackend::set_held(bool held) {
  const std::lock_guard lock(mutex_);
  held_ = held;
  changed_.notify_all();
}

void FakeBackend::set_queued(int count, int64_t tokens) {
  const std::lock_guard lock(mutex_);
  queued_ = count;
  queued_tokens_ = tokens;
}

void FakeBackend::set_max_live(size_t count) {
  const std::lock_guard lock(mutex_);
  max_live_ = count;
}

Request FakeBackend::last() const {
  const std::lock_guard lock(mutex_);
  return last_;
}

bool FakeBackend::wait_live(size_t count) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::seconds(10), [&] { return live_.size() == count; });
}

// One token for every choice of every request, then the lock is dropped: submit and abort come in
// between.
void FakeBackend::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const auto can_work = [this] {
      if (stopping_ || (!held_ && !live_.empty())) return true;
      for (const Live& live : live_) {
        if (live.aborted || live.fails) return true;
      }
      return false;
    };
    changed_.wait(lock, can_work);
    for (auto it = live_.begin(); it != live_.end();) {
      const bool done = (!held_ || it->aborted || it->fails) && step(*it, reply_);
      it = done ? live_.erase(it) : std::next(it);
    }
    changed_.notify_all();
    lock.unlock();
    std::this_thread::yield();
    lock.lock();
  }
}

void FakeBackend::set_fault(std::string fault) {
  const std::lock_guard lock(mutex_);
  fault_ = std::move(fault);
}

void FakeBackend::set_fail_next() {
  const std::lock_guard lock(mutex_);
  fail_next_ = true;
}

void FakeBackend::set_encode_held(bool held) {
  tokenizer_.held_.store(held);
  tokenizer_.held_.notify_all();
}

/// Ends the first choice with an error. True if it was the only one.
bool FakeBackend::fail_first(Live& live) {
  live.fails = false;
  Output output;
  output.choice = live.choices.front().index;
  output.finish = Finish{FinishReason::kError, {}, "the first choice fails"};
  live.sink->on_output(std::move(output));
  live.choices.pop_front();
  return live.choices.empty();
}

/// True once all choices have finished.
bool FakeBackend::step(Live& live, const std::string& reply) {
  const Request& request = live.request;
  if (live.fails) return fail_first(live);
  for (auto it = live.choices.begin(); it != live.choices.end();) {
    Choice& choice = *it;
    Output output;
    output.choice = choice.index;
    output.usage.prompt_tokens = static_cast<int>(request.prompt_ids.size());
    if (live.aborted) {
      output.finish = Finish{FinishReason::kAbort, {}, "aborted"};
      aborted_.fetch_add(1);
    } else {
      const bool end = choice.done == reply.size();
      const int32_t id = end ? ByteTokenizer::kEos : static_cast<unsigned char>(reply[choice.done]);
      output.token_ids = {id};
      if (request.logprobs)
        output.logprobs = {{id, -0.5F, {{id, -0.5F}, {id == 65 ? 66 : 65, -1.5F}}}};
      if (choice.index == 0 && choice.done == 0 && request.prompt_logprobs) {
        for (const int32_t p : request.prompt_ids)
          output.prompt_logprobs.push_back({p, -2, {{p, -2.F}}});
      }
      ++choice.done;
      if (end) {
        output.finish = Finish{FinishReason::kStop, id, {}};
      } else {
        output.text = choice.decoder.push(id);
        if (request.max_new_tokens && choice.done == static_cast<size_t>(*request.max_new_tokens)) {
          output.finish = Finish{FinishReason::kLength, {}, {}};
        }
      }
      if (output.finish) output.text += choice.decoder.flush();
    }
    output.usage.completion_tokens = static_cast<int>(choice.done);
    const bool finished = output.finish.has_value();
    live.sink->on_output(std::move(output));
    it = finished ? live.choices.erase(it) : std::next(it);
  }
  return live.choices.empty();
}

}  // namespace erne::server
