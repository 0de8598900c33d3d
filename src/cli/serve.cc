// `erne serve`: listens, loads the model, serves, and stops in order. This file is steps 1 of the
// flow in docs/architecture.md; the signals are taken by one thread, so that a stop works while the
// model still loads.
#include <pthread.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <memory>
#include <thread>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/progress.h"
#include "cli/serve_flags.h"
#include "cli/verbs.h"
#include "server/server.h"
#include "server/step_log.h"
#include "tensor/dtype.h"

namespace erne::cli {
namespace {

using SteadyClock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kTick{100};
constexpr std::chrono::seconds kLastWords{5};  // for clients to read why their requests ended

/// The engine and the chat template as the server sees them.
class EngineBackend final : public server::Backend {
 public:
  EngineBackend(const EngineOptions& options, std::unique_ptr<ChatTemplate> chat_template)
      : chat_template_(std::move(chat_template)), engine_(options) {}

  std::string submit(Request request, std::shared_ptr<OutputSink> sink) override {
    return engine_.submit(std::move(request), std::move(sink));
  }
  void abort(const std::string& prefix) override { engine_.abort(prefix); }
  bool flush_cache() override { return engine_.flush_cache(); }
  EngineStats stats() const override { return engine_.stats(); }
  const Tokenizer& tokenizer() const override { return engine_.tokenizer(); }
  const ChatTemplate& chat_template() const override { return *chat_template_; }
  const TextConfig& config() const override { return engine_.config(); }
  const GenerationConfig& generation_config() const override { return engine_.generation_config(); }
  int64_t context_length() const override { return engine_.context_length(); }
  const EngineOptions& options() const { return engine_.options(); }

 private:
  const std::unique_ptr<ChatTemplate> chat_template_;
  Engine engine_;
};

/// Takes SIGTERM and SIGINT: the first asks for a stop (or exits at once while nothing serves yet),
/// the second exits.
class StopSignals {
 public:
  /// Before any other thread starts: all of them inherit the mask.
  StopSignals() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGTERM);
    sigaddset(&signals_, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
    // Waits in the kernel until the process ends, so past serve()'s end: the state is its own too.
    std::thread([state = state_, signals = signals_] { take(*state, signals); }).detach();
  }
  bool stop() const { return state_->count.load() > 0; }
  void serving() { state_->serving.store(true); }

 private:
  struct State {
    std::atomic<int> count{0};
    std::atomic<bool> serving{false};
  };

  static void take(State& state, const sigset_t& signals) {
    for (;;) {
      int signal = 0;
      if (sigwait(&signals, &signal) != 0) continue;
      const bool second = state.count.fetch_add(1) > 0;
      if (second || !state.serving.load()) {
        log::warn("{}: exiting now", second ? "second signal" : "stopped while starting");
        std::_Exit(second ? 1 : 0);
      }
      log::info("stopping: running requests may finish; a second signal exits now");
    }
  }

  sigset_t signals_{};
  const std::shared_ptr<State> state_ = std::make_shared<State>();
};

std::unique_ptr<ChatTemplate> load_template(const ServeFlags& flags,
                                            const std::filesystem::path& folder) {
  if (flags.chat_template.empty()) return ChatTemplate::load(folder);
  return ChatTemplate::parse(read_file(flags.chat_template, size_t{1} << 20), flags.chat_template);
}

int prompt_tokens_of_step(const EngineOptions& o) {
  return o.chunked_prefill_size > 0 ? std::min(o.chunked_prefill_size, o.max_prefill_tokens)
                                    : o.max_prefill_tokens;
}

void log_budget(const EngineBackend& backend) {
  const EngineStats s = backend.stats();
  const EngineOptions& o = backend.options();
  log::info("memory");
  log::info("  weights    {:>12}   {}, loaded in {:.1f} s", human_bytes(s.weight_bytes),
            o.dtype ? dtype_name(*o.dtype) : "none", s.load_s);
  log::info("  KV pool    {:>12}   {} tokens, pages of {}", human_bytes(s.kv_bytes), s.pool_tokens,
            o.page_size);
  log::info("  workspace  {:>12}   a step of {} prompt tokens and {} answers",
            human_bytes(s.workspace_bytes), prompt_tokens_of_step(o), o.max_running_requests);
  log::info("  free       {:>12}   once the pool is in use", human_bytes(s.free_bytes));
  log::info("  context {} tokens, {} requests at once, prompts in chunks of {}, chat template {}",
            backend.context_length(), o.max_running_requests, o.chunked_prefill_size,
            backend.chat_template().name());
  if (s.pool_tokens < backend.context_length()) {
    log::warn(
        "the KV pool holds {} tokens, less than the context: longer requests are refused "
        "(--max-total-tokens)",
        s.pool_tokens);
  }
}

/// One short answer through the whole engine, so that the first client does not pay for first
/// touches of memory.
void warm_up(EngineBackend& backend) {
  Request request;
  request.prompt_ids.assign(static_cast<size_t>(std::min<int64_t>(4, backend.context_length() - 1)),
                            0);
  request.max_new_tokens = 1;
  request.sampling.temperature = 0;
  request.cache_salt = "\x01warm-up";
  request.hidden = true;
  const auto stream = std::make_shared<TokenStream>();
  backend.submit(std::move(request), stream);
  while (const auto output = stream->next()) {
    if (output->finish && output->finish->reason == FinishReason::kError) {
      fail(Code::kInternal, "the warm-up request failed: {}", output->finish->message);
    }
  }
  backend.flush_cache();
}

/// Exit 1 when work waits and no step ends for so long: an orchestrator restarts us, clients see a
/// closed connection.
void check_watchdog(const EngineStats& s, double limit_s) {
  if (s.running + s.queued == 0 || s.last_step_age_s <= limit_s) return;
  log::error(
      "watchdog: no step for {:.0f} s; {} run, {} wait, {} of {} KV tokens used, {} steps so far",
      s.last_step_age_s, s.running, s.queued, s.used_tokens, s.pool_tokens, s.steps_total);
  std::_Exit(1);
}

/// Exit 1 once clients have their errors. Nothing is freed: a lost device's driver may not return.
[[noreturn]] void end_without_device(server::Server& server, const std::string& fault) {
  log::error("stopping, exit status 1: {}", fault);
  server.drain(kLastWords);
  server.stop();
  std::_Exit(1);
}

void warn_if_open(const server::ServerOptions& options) {
  const std::string& host = options.http.host;
  const bool loopback = host.starts_with("127.") || host == "localhost" || host == "::1";
  if (!loopback && !options.api_key) {
    log::warn(
        "--host {} is reachable from other machines and no --api-key is set: anyone there may use "
        "it",
        host);
  }
}

void serve(const CLI::App& app, const ServeFlags& flags) {
  const auto start = SteadyClock::now();
  const auto seconds_since_start = [start] {
    return std::chrono::duration<double>(SteadyClock::now() - start).count();
  };
  log::set_level(log::parse_level(flags.log_level));
  const server::ServerOptions server_options = to_server_options(app, flags);
  check_engine_flags(flags.engine);
  StopSignals signals;
  log::info("arguments: {}", server_options.launch_arguments);
  warn_if_open(server_options);
  server::raise_file_limit();
  const std::string host = server_options.http.host;
  server::Server server(server_options);
  const std::string url = fmt::format(
      "http://{}:{}", host.find(':') == std::string::npos ? host : "[" + host + "]", server.port());
  log::info("listening on {}; probes get 503 until the model is loaded", url);

  EngineOptions engine_options = to_engine_options(flags.engine);
  engine_options.allow_auto_truncate = flags.allow_auto_truncate;
  EngineBackend backend(engine_options, load_template(flags, engine_options.model_path));
  if (backend.options().skip_tokenizer) {
    fail(Code::kInvalidArgument,
         "{} has no tokenizer, which serving needs: put tokenizer.json or tokenizer.model beside "
         "config.json",
         engine_options.model_path.string());
  }
  const double load_s = seconds_since_start();
  log_budget(backend);
  if (!flags.skip_warmup) warm_up(backend);
  server.service().metrics.startup(seconds_since_start(), backend.stats().load_s);
  log::info("start-up took {:.1f} s: {:.1f} s to load, {:.1f} s to warm up", seconds_since_start(),
            load_s, seconds_since_start() - load_s);
  server.attach(backend);
  signals.serving();
  log::info("erne is ready: {}", url);

  server::StepLog step_log(backend.stats(), static_cast<uint64_t>(flags.decode_log_interval));
  while (!signals.stop()) {
    std::this_thread::sleep_for(kTick);
    const EngineStats stats = backend.stats();
    if (!stats.fault.empty()) end_without_device(server, stats.fault);
    check_watchdog(stats, flags.watchdog_s);
    for (const std::string& line : step_log.lines(stats)) log::info("{}", line);
  }
  server.drain(std::chrono::milliseconds(static_cast<int64_t>(flags.grace_s * 1000)));
  server.stop();
  log::info("stopped");
}

}  // namespace

void add_serve(CLI::App& app) {
  CLI::App* verb =
      app.add_subcommand("serve", "Serve a model over the OpenAI API, with a chat page at /");
  const auto flags = std::make_shared<ServeFlags>();
  add_serve_flags(*verb, *flags);
  verb->footer(
      "Examples:\n"
      "  erne serve --model-path models/default\n"
      "  erne serve -m baidu/ERNIE-4.5-0.3B-PT --host 0.0.0.0 --port 8000 --api-key SECRET\n"
      "  erne serve -m DIR --max-total-tokens 65536 --max-queued-requests 100 --enable-metrics\n"
      "  erne serve --config serve.yaml --port 8001\n"
      "Scripts wait for GET /ready. Flags of SGLang that this version lacks are refused by name.\n"
      "Exit codes: 0 stopped, 1 failure (a lost device too), 2 bad arguments, 3 model cannot be "
      "loaded, 4 not enough "
      "memory.");
  verb->callback([verb, flags] { serve(*verb, *flags); });
}

}  // namespace erne::cli
