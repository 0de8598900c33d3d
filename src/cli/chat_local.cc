// `erne chat` on the engine in this process. Each turn renders the whole conversation; the engine's
// prefix cache finds the part that it has already seen.
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "chat/chat_template.h"
#include "cli/chat_backend.h"
#include "cli/line_editor.h"
#include "cli/prompt_input.h"
#include "engine/engine.h"
#include "model/config.h"
#include "token/tokenizer.h"

namespace erne::cli {
namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Like TokenStream, but waits only so long: the reader looks for Ctrl-C in between.
class PolledStream final : public OutputSink {
 public:
  void on_output(Output output) override {
    {
      const std::lock_guard lock(mutex_);
      outputs_.push_back(std::move(output));
    }
    ready_.notify_one();
  }

  std::vector<Output> take(std::chrono::milliseconds timeout) {
    std::unique_lock lock(mutex_);
    ready_.wait_for(lock, timeout, [&] { return !outputs_.empty(); });
    return std::exchange(outputs_, {});
  }

 private:
  std::mutex mutex_;
  std::condition_variable ready_;
  std::vector<Output> outputs_;
};

class LocalBackend final : public ChatBackend {
 public:
  LocalBackend(const EngineOptions& options, std::string kwargs)
      : engine_(options),
        template_(ChatTemplate::load(options.model_path)),
        kwargs_(std::move(kwargs)) {}

  std::string describe() const override {
    std::filesystem::path folder = engine_.options().model_path;
    if (!folder.has_filename()) folder = folder.parent_path();
    const auto& dtype = engine_.options().dtype;
    return fmt::format("{} ({}context {} tokens)", folder.filename().string(),
                       dtype ? fmt::format("{}, ", dtype_name(*dtype)) : "",
                       engine_.context_length());
  }
  const GenerationConfig* defaults() const override { return &engine_.generation_config(); }
  int64_t context_length() const override { return engine_.context_length(); }

  ChatAnswer answer(const std::string& messages, const SamplingFlags& sampling,
                    const OnText& on_text) override {
    Request request;
    request.prompt_ids =
        to_ids(Conversation{messages}, engine_.tokenizer(), template_.get(), kwargs_);
    apply_sampling(sampling, engine_.generation_config(), request);
    const Clock::time_point start = Clock::now();
    auto stream = std::make_shared<PolledStream>();
    const std::string id = engine_.submit(std::move(request), stream);
    ChatAnswer answer;
    bool told = false;  // the engine has been asked to stop
    for (bool finished = false; !finished;) {
      if (!told && InterruptGuard::interrupted()) {
        engine_.abort(id);
        told = true;
      }
      for (const Output& output : stream->take(std::chrono::milliseconds(50))) {
        if (answer.text.empty() && !output.text.empty()) answer.stats.first_s = since(start);
        if (!told && !output.text.empty()) on_text(TextKind::kAnswer, output.text);
        if (!told) answer.text += output.text;
        take_usage(output, answer.stats);
        finished = output.finish.has_value();
        if (finished) set_reason(*output.finish, answer.stats, told);
      }
    }
    answer.stats.total_s = since(start);
    return answer;
  }

 private:
  static void take_usage(const Output& output, AnswerStats& stats) {
    stats.prompt_tokens = output.usage.prompt_tokens;
    stats.cached_tokens = output.usage.cached_tokens;
    stats.completion_tokens = output.usage.completion_tokens;
  }

  static void set_reason(const Finish& finish, AnswerStats& stats, bool told) {
    if (told) {
      stats.finish_reason = "interrupted";
    } else if (finish.reason == FinishReason::kError || finish.reason == FinishReason::kAbort) {
      fail(Code::kInternal, "the answer broke off: {}",
           finish.message.empty() ? "aborted" : finish.message);
    } else {
      stats.finish_reason = finish.reason == FinishReason::kLength ? "length" : "stop";
    }
  }

  Engine engine_;
  std::unique_ptr<ChatTemplate> template_;
  std::string kwargs_;
};

}  // namespace

std::unique_ptr<ChatBackend> make_local_backend(const EngineFlags& flags,
                                                const std::string& kwargs) {
  EngineOptions options = to_engine_options(flags);
  options.show_progress = true;
  return std::make_unique<LocalBackend>(options, kwargs);
}

}  // namespace erne::cli
