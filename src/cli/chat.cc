// `erne chat`: a conversation in the terminal, with the engine in this process or a server behind
// --base-url. Piped, it answers once: the answer alone goes to stdout.
#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "base/utf8.h"
#include "cli/chat_backend.h"
#include "cli/chat_commands.h"
#include "cli/engine_flags.h"
#include "cli/line_editor.h"
#include "cli/sampling_flags.h"
#include "cli/terminal.h"
#include "cli/verbs.h"

namespace erne::cli {
namespace {

constexpr std::string_view kBlockQuote = "\"\"\"";

struct ChatFlags {
  EngineFlags engine;
  SamplingFlags sampling;
  std::string base_url, system, chat_template_kwargs;
  std::vector<std::string> message;
  bool no_history = false, no_stats = false, verbose = false;
};

std::unique_ptr<ChatBackend> make_backend(const ChatFlags& f) {
  if (f.base_url.empty()) return make_local_backend(f.engine, f.chat_template_kwargs);
  return make_remote_backend(f.base_url, f.engine.model_path, f.chat_template_kwargs);
}

// Shows an answer as it comes; thinking is dim on a terminal and left out of a pipe.
class AnswerPrinter {
 public:
  explicit AnswerPrinter(bool terminal) : terminal_(terminal) {}

  void show(TextKind kind, const std::string& text) {
    if (kind == TextKind::kThinking) {
      if (!terminal_) return;
      write_stdout(dim(visible(text), stdout));
      thinking_ = true;
    } else {
      if (thinking_) write_stdout("\n\n");
      thinking_ = false;
      write_stdout(terminal_ ? visible(text) : text);
    }
    ends_line_ = text.ends_with('\n');
    any_ = true;
  }

  /// The cursor stands at the start of a line afterwards.
  void end() {
    if (!any_ || !ends_line_) write_stdout("\n");
  }

 private:
  bool terminal_;
  bool thinking_ = false, ends_line_ = false, any_ = false;
};

void count(ChatState& state, const AnswerStats& stats) {
  state.last = stats;
  ++state.num_answers;
  state.prompt_tokens += stats.prompt_tokens;
  state.cached_tokens += stats.cached_tokens;
  state.completion_tokens += stats.completion_tokens;
  state.answer_s += stats.total_s;
}

// Sends the conversation with `text` as its newest message. A question that fails leaves no trace;
// an answer that was interrupted stays as far as it came.
void ask(ChatBackend& backend, ChatState& state, const std::string& text, AnswerPrinter& printer) {
  state.messages.push_back({"user", text});
  try {
    ChatAnswer answer =
        backend.answer(to_json(state), state.sampling,
                       [&](TextKind kind, const std::string& piece) { printer.show(kind, piece); });
    if (answer.text.empty() && answer.stats.finish_reason == "interrupted") {
      state.messages.pop_back();
    } else {
      state.messages.push_back({"assistant", answer.text});
    }
    count(state, answer.stats);
  } catch (const Error&) {
    state.messages.pop_back();
    throw;
  }
}

void answer_once(ChatBackend& backend, ChatState& state, const std::string& text) {
  if (!utf8::valid(text)) fail(Code::kInvalidArgument, "the message is not valid UTF-8");
  AnswerPrinter printer(is_terminal(stdout));
  ask(backend, state, text, printer);
  printer.end();
}

// A person at the keyboard.
class Dialogue {
 public:
  Dialogue(ChatBackend& backend, ChatState state, const ChatFlags& flags)
      : backend_(backend),
        state_(std::move(state)),
        no_stats_(flags.no_stats),
        screen_(is_terminal(stdout) ? stdout : stderr),
        editor_(flags.no_history ? std::filesystem::path() : chat_history_path()) {}

  void run() {
    say(fmt::format("{}. /help lists the commands, Ctrl-D leaves.", backend_.describe()));
    bool warned = false;  // one Ctrl-C at an empty prompt has gone by
    for (;;) {
      const Line line = read_message();
      if (line.event == LineEvent::kEnd) {
        std::fputs("\n", screen_);
        return;
      }
      if (line.event == LineEvent::kInterrupt) {
        if (line.text.empty() && warned) return;
        if (line.text.empty()) say("press Ctrl-C again or type /quit to leave");
        warned = line.text.empty();
        continue;
      }
      warned = false;
      if (line.text.find_first_not_of(" \t\n") == std::string::npos) continue;
      editor_.remember(line.text);
      if (!handle(line.text)) return;
    }
  }

 private:
  /// False when the person wants to leave.
  bool handle(const std::string& text) {
    if (text.front() == '/') {
      const CommandResult result = run_command(text, state_, backend_);
      std::fputs(visible(result.text).c_str(), screen_);
      return !result.quit;
    }
    AnswerPrinter printer(is_terminal(stdout));
    const EchoOff quiet;
    InterruptGuard::clear();
    try {
      ask(backend_, state_, text, printer);
      printer.end();
      if (!no_stats_ && state_.last) say("[" + describe(*state_.last) + "]");
    } catch (const Error& e) {
      printer.end();
      say(explain(e));
    }
    InterruptGuard::clear();
    return true;
  }

  static std::string explain(const Error& e) {
    const std::string message = e.what();
    const bool too_long = message.find("maximum context length") != std::string::npos;
    return "error: " + message + (too_long ? "; /reset starts over" : "");
  }

  // One line, or several: after a backslash, or between triple quotes.
  Line read_message() {
    Line line = editor_.read_line(">>> ");
    if (line.event != LineEvent::kLine) return line;
    const bool block = line.text.starts_with(kBlockQuote);
    std::string text = block ? line.text.substr(kBlockQuote.size()) : line.text;
    auto open = [&] { return block ? !text.ends_with(kBlockQuote) : text.ends_with('\\'); };
    while (open()) {
      if (!block) text.pop_back();
      line = editor_.read_line("... ");
      if (line.event != LineEvent::kLine) return {LineEvent::kInterrupt, std::move(text) + "\n"};
      text += "\n" + line.text;
    }
    if (block) text.resize(text.size() - kBlockQuote.size());
    return {LineEvent::kLine, std::move(text)};
  }

  void say(const std::string& text) {
    std::fputs((dim(visible(text), screen_) + "\n").c_str(), screen_);
  }

  ChatBackend& backend_;
  ChatState state_;
  bool no_stats_;
  std::FILE* screen_;
  InterruptGuard guard_;
  LineEditor editor_;
};

std::string joined(const std::vector<std::string>& words) {
  return fmt::format("{}", fmt::join(words, " "));
}

// What to answer when nobody sits at the keyboard: the message of the command line, the piped text,
// or both.
std::optional<std::string> single_message(const ChatFlags& f) {
  std::string text = joined(f.message);
  if (!is_terminal(stdin)) {
    std::string piped = read_stdin();
    while (piped.ends_with('\n') || piped.ends_with('\r')) piped.pop_back();
    if (!piped.empty()) text += (text.empty() ? "" : "\n\n") + piped;
    if (text.empty()) fail(Code::kInvalidArgument, "nothing to answer: standard input is empty");
  }
  return text.empty() ? std::nullopt : std::optional(text);
}

void run(const ChatFlags& f) {
  if (!f.verbose) log::set_level(log::Level::kWarn);
  const std::optional<std::string> message = single_message(f);
  const std::unique_ptr<ChatBackend> backend = make_backend(f);
  ChatState state;
  state.system = f.system;
  state.sampling = f.sampling;
  if (message) return answer_once(*backend, state, *message);
  Dialogue(*backend, std::move(state), f).run();
}

}  // namespace

void add_chat(CLI::App& app) {
  CLI::App* verb = app.add_subcommand("chat", "talk to a model in the terminal");
  auto flags = std::make_shared<ChatFlags>();
  const char* group = "Chat";
  verb->add_option("message", flags->message, "Answer this and exit (piped text is added below it)")
      ->type_name("MESSAGE");
  verb->add_option("--base-url", flags->base_url,
                   "Talk to this OpenAI-compatible server; --model-path names its model")
      ->take_last()
      ->group(group);
  verb->add_option("--system", flags->system, "System prompt")->take_last()->group(group);
  verb->add_option("--chat-template-kwargs", flags->chat_template_kwargs,
                   "JSON object for the chat template")
      ->take_last()
      ->group(group);
  verb->add_flag("--no-history", flags->no_history, "Keep no history of what is typed")
      ->group(group);
  verb->add_flag("--no-stats", flags->no_stats, "No line of figures after an answer")->group(group);
  verb->add_flag("--verbose", flags->verbose, "Show the engine's log on stderr")->group(group);
  add_sampling_flags(*verb, flags->sampling);
  add_engine_flags(*verb, flags->engine);
  verb->footer(
      "Examples:\n"
      "  erne chat -m DIR\n"
      "  erne chat -m DIR --system \"Answer in one sentence.\" --temperature 0.7\n"
      "  erne chat --base-url http://127.0.0.1:30000\n"
      "  echo \"What is the capital of France?\" | erne chat -m DIR\n"
      "  erne chat -m DIR \"Explain this error\" < error.log");
  verb->callback([flags] { run(*flags); });
}

}  // namespace erne::cli
