// The engine thread, its mailbox, and what foreign threads may ask. The work of a step is in
// step_loop.cc.
#include "engine/engine.h"

#include <atomic>
#include <future>
#include <thread>
#include <variant>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mailbox.h"
#include "base/rng.h"
#include "device/device_error.h"
#include "engine/ledger.h"
#include "engine/loaded_model.h"
#include "engine/step_loop.h"
#include "engine/validate.h"

namespace erne {
namespace {

using namespace std::chrono_literals;

struct AbortCommand {
  std::string prefix;
};
struct FlushCommand {
  std::shared_ptr<std::promise<bool>> done;
};
using Command = std::variant<std::unique_ptr<LiveRequest>, AbortCommand, FlushCommand>;

// Philox streams of the engine's own seed; requests use theirs with the choice index as the stream.
constexpr uint64_t kSeedStream = uint64_t{1} << 32;
constexpr uint64_t kIdStream = kSeedStream + 1;

uint64_t draw64(uint64_t seed, uint64_t stream, uint64_t counter) {
  const auto x = philox(seed, stream, counter);
  return uint64_t{x[0]} << 32 | x[1];
}

}  // namespace

struct Engine::State {
  explicit State(const EngineOptions& wanted)
      : options(wanted),
        model(load_model(options)),
        ledger(options.max_queued_requests, options.max_queued_tokens),
        loop(options, *model.runner, model.tokenizer.get(), clock, ledger, model.eos_ids) {
    publish_stats(false);
    thread = std::thread([this] { run(); });
  }

  ~State() {
    stopping.store(true);
    mailbox.wake();
    thread.join();
  }

  void run();
  void turn();
  void step();
  void refuse();
  void fail_all(const std::string& message);
  void handle(Command& command);
  void publish_stats(bool worked);

  EngineOptions options;  // resolved by load_model
  LoadedModel model;
  SystemClock clock;
  Ledger ledger;
  StepLoop loop;
  Mailbox<Command> mailbox;
  std::atomic<bool> stopping{false};
  std::atomic<uint64_t> serial{0};

  mutable std::mutex stats_mutex;
  EngineStats stats;
  double busy_since_s = -1;  // last step, or when work arrived; < 0: idle
  std::string fault;         // EngineStats::fault; the engine thread writes it, once

  std::thread thread;  // last: it uses all of the above
};

void Engine::State::handle(Command& command) {
  if (auto* request = std::get_if<std::unique_ptr<LiveRequest>>(&command)) {
    loop.add(std::move(*request));
  } else if (auto* abort = std::get_if<AbortCommand>(&command)) {
    loop.abort(abort->prefix, "the request was aborted");
  } else {
    std::get<FlushCommand>(command).done->set_value(loop.flush_cache());
  }
}

void Engine::State::step() {
  std::vector<Command> commands = mailbox.take();  // new and cancelled requests
  for (Command& command : commands) handle(command);
  if (!commands.empty()) publish_stats(false);
  const bool worked = loop.step();  // schedule, forward, sample, commit
  publish_stats(worked);
  loop.publish();  // stream out
  if (!worked) mailbox.wait_for(loop.idle() ? 500ms : 10ms);
}

// On a lost device: every request gets the cause, none a step.
void Engine::State::refuse() {
  std::vector<Command> commands = mailbox.take();
  for (Command& command : commands) handle(command);
  if (!loop.idle()) fail_all("the engine has stopped: " + fault);
  mailbox.wait_for(500ms);
}

void Engine::State::fail_all(const std::string& message) {
  loop.fail_all(message);
  publish_stats(false);
  loop.publish();
}

// An exception in a step ends the requests in flight, and not the engine; a lost device ends its
// work, but it stays to say so until its owner ends the process.
void Engine::State::turn() {
  try {
    fault.empty() ? step() : refuse();
  } catch (const DeviceError& e) {
    log::error("the engine stops, all requests end with an error: {}", e.what());
    fault = e.what();
    fail_all("the engine has stopped: " + fault);
  } catch (const std::exception& e) {
    log::error("a step of the engine failed, its requests end with an error: {}", e.what());
    fail_all(fmt::format("the engine failed while it ran this request: {}", e.what()));
  }
}

void Engine::State::run() {
  if (model.device != nullptr) model.device->bind_caller();
  while (!stopping.load()) turn();
  std::vector<Command> commands = mailbox.take();
  for (Command& command : commands) handle(command);
  loop.abort("", "the engine is shutting down");
  loop.step();
  loop.publish();
}

// A turn that did nothing is no progress: a scheduler that is stuck must show.
void Engine::State::publish_stats(bool worked) {
  EngineStats now = loop.stats();
  const std::lock_guard lock(stats_mutex);
  stats = now;
  stats.fault = fault;
  if (loop.idle()) {
    busy_since_s = -1;
  } else if (worked || busy_since_s < 0) {
    busy_since_s = clock.now_s();
  }
}

Engine::Engine(const EngineOptions& options) : state_(std::make_unique<State>(options)) {}
Engine::~Engine() = default;

std::string Engine::submit(Request request, std::shared_ptr<OutputSink> sink) {
  State& s = *state_;
  ERNE_CHECK(sink != nullptr, "a request needs a sink");
  const int64_t max_new_tokens = validate(request, s.options, s.model.config.vocab_size);
  if (s.model.tokenizer == nullptr && !request.stop.empty()) {
    fail(Code::kInvalidArgument,
         "stop strings need a tokenizer, but the engine was started without one");
  }
  const uint64_t serial = s.serial.fetch_add(1);
  if (request.id.empty())
    request.id = fmt::format("{:016x}", draw64(s.options.random_seed, kIdStream, serial));
  if (s.options.disable_radix_cache) request.cache_salt = fmt::format("request {}", serial);

  auto live =
      std::make_unique<LiveRequest>(std::move(request), std::move(sink), s.model.tokenizer.get());
  live->serial = serial;
  live->seed =
      live->request.sampling.seed.value_or(draw64(s.options.random_seed, kSeedStream, serial));
  live->max_new_tokens = max_new_tokens;
  live->submitted_s = s.clock.now_s();
  std::string id = live->request.id;
  log::debug("request {}: {} prompt tokens, at most {} new ones, seed {}", id, live->prompt_len(),
             max_new_tokens, live->seed);
  s.ledger.enter(id, live->queued_tokens());
  s.mailbox.put(std::move(live));
  return id;
}

void Engine::abort(const std::string& prefix) { state_->mailbox.put(AbortCommand{prefix}); }

bool Engine::flush_cache() {
  auto done = std::make_shared<std::promise<bool>>();
  std::future<bool> result = done->get_future();
  state_->mailbox.put(FlushCommand{std::move(done)});
  return result.get();
}

EngineStats Engine::stats() const {
  const State& s = *state_;
  EngineStats stats;
  double busy_since_s = 0;
  {
    const std::lock_guard lock(s.stats_mutex);
    stats = s.stats;
    busy_since_s = s.busy_since_s;
  }
  stats.queued = std::max(stats.queued, s.ledger.queued());  // counts those still in the mailbox
  stats.queued_tokens = s.ledger.queued_tokens();
  const double progress_s = std::max(busy_since_s, s.model.runner->last_progress_s());
  stats.last_step_age_s = busy_since_s < 0 ? 0 : std::max(0.0, s.clock.now_s() - progress_s);
  stats.weight_bytes = s.model.weight_bytes;
  stats.kv_bytes = s.model.kv_bytes;
  stats.workspace_bytes = s.model.workspace_bytes;
  stats.free_bytes = s.model.free_bytes;
  stats.load_s = s.model.load_s;
  return stats;
}

const Tokenizer& Engine::tokenizer() const {
  if (state_->model.tokenizer == nullptr)
    fail(Code::kConflict, "the engine was started without a tokenizer");
  return *state_->model.tokenizer;
}
const TextConfig& Engine::config() const { return state_->model.config; }
const GenerationConfig& Engine::generation_config() const { return state_->model.generation; }
const EngineOptions& Engine::options() const { return state_->options; }
int64_t Engine::context_length() const { return *state_->options.context_length; }

}  // namespace erne
