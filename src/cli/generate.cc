// `erne generate`: answers to one prompt or to many, from the engine in this process. All prompts
// go into the engine at once and share its batches; output comes in the order of the input.
#include <CLI/CLI.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/utf8.h"
#include "chat/chat_template.h"
#include "cli/engine_flags.h"
#include "cli/prompt_input.h"
#include "cli/sampling_flags.h"
#include "cli/terminal.h"
#include "cli/verbs.h"
#include "engine/engine.h"
#include "model/config.h"
#include "token/tokenizer.h"

namespace erne::cli {
namespace {

// Enough for an answer; a base model that never stops would else fill its whole context.
constexpr int kDefaultMaxNewTokens = 512;

struct GenerateFlags {
  EngineFlags engine;
  SamplingFlags sampling;
  std::vector<std::string> prompts;
  std::string messages, input_ids, chat_template_kwargs;
  int n = 1;
  bool json = false, verbose = false;
};

// One choice of one prompt, complete.
struct Answer {
  std::string text;
  std::vector<int32_t> ids;
  Usage usage;
  Finish finish;
};

struct Pending {
  std::vector<int32_t> prompt_ids;
  std::shared_ptr<TokenStream> stream;
};

std::vector<PromptInput> read_inputs(const GenerateFlags& f) {
  const int sources =
      (f.prompts.empty() ? 0 : 1) + (f.messages.empty() ? 0 : 1) + (f.input_ids.empty() ? 0 : 1);
  if (sources > 1)
    fail(Code::kInvalidArgument, "give only one of --prompt, --messages and --input-ids");
  if (!f.messages.empty()) return read_messages(f.messages);
  if (!f.input_ids.empty()) return read_input_ids(f.input_ids);
  std::vector<PromptInput> inputs;
  for (const std::string& prompt : f.prompts) inputs.push_back(RawText{prompt});
  if (inputs.empty()) {
    if (is_terminal(stdin)) {
      fail(Code::kInvalidArgument,
           "nothing to generate from: give --prompt TEXT, --messages FILE or --input-ids 1,2,3, or "
           "pipe text in");
    }
    inputs.push_back(RawText{read_stdin()});
  }
  for (const PromptInput& input : inputs) {
    const auto* raw = std::get_if<RawText>(&input);
    if (raw != nullptr && raw->text.empty()) fail(Code::kInvalidArgument, "the prompt is empty");
    if (raw != nullptr && !utf8::valid(raw->text))
      fail(Code::kInvalidArgument, "the prompt is not valid UTF-8");
  }
  return inputs;
}

const char* reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kAbort:
      return "abort";
    case FinishReason::kError:
      return "error";
  }
  return "";
}

OrderedJson matched_of(const Finish& finish) {
  if (const auto* id = std::get_if<int32_t>(&finish.matched)) return *id;
  if (const auto* text = std::get_if<std::string>(&finish.matched)) return *text;
  return nullptr;
}

std::string json_line(size_t index, int choice, int n, const std::vector<int32_t>& prompt_ids,
                      const Answer& answer) {
  OrderedJson line;
  line["index"] = index;
  if (n > 1) line["choice"] = choice;
  line["prompt_ids"] = prompt_ids;
  line["output_ids"] = answer.ids;
  line["text"] = answer.text;
  line["finish_reason"] = reason_name(answer.finish.reason);
  line["matched_stop"] = matched_of(answer.finish);
  line["usage"] = {{"prompt_tokens", answer.usage.prompt_tokens},
                   {"completion_tokens", answer.usage.completion_tokens},
                   {"cached_tokens", answer.usage.cached_tokens}};
  if (!answer.finish.message.empty()) line["error"] = answer.finish.message;
  return dump_json(line) + "\n";
}

// Streams text as it comes where only one text will ever be printed; else prints each text when its
// turn has come.
class Printer {
 public:
  Printer(const GenerateFlags& flags, size_t num_prompts)
      : json_(flags.json),
        n_(flags.n),
        single_(!flags.json && num_prompts == 1 && flags.n == 1),
        terminal_(is_terminal(stdout)) {}

  void piece(const std::string& text) {
    if (!single_ || text.empty()) return;
    show(text);
    ends_line_ = text.back() == '\n';
  }

  void answer(size_t index, int choice, const Pending& prompt, const Answer& answer) {
    if (json_) {
      write_stdout(json_line(index, choice, n_, prompt.prompt_ids, answer));
    } else if (single_) {
      if (!ends_line_) write_stdout("\n");
    } else {
      write_stdout(n_ > 1 ? fmt::format("--- prompt {} choice {} ---\n", index + 1, choice + 1)
                          : fmt::format("--- prompt {} ---\n", index + 1));
      show(answer.text + (answer.text.ends_with('\n') ? "" : "\n"));
    }
  }

 private:
  void show(const std::string& text) { write_stdout(terminal_ ? visible(text) : text); }

  bool json_;
  int n_;
  bool single_;
  bool terminal_;
  bool ends_line_ = false;
};

std::vector<Answer> collect(Pending& pending, int n, Printer& printer) {
  std::vector<Answer> answers(static_cast<size_t>(n));
  while (std::optional<Output> output = pending.stream->next()) {
    Answer& answer = answers[static_cast<size_t>(output->choice)];
    answer.text += output->text;
    answer.ids.insert(answer.ids.end(), output->token_ids.begin(), output->token_ids.end());
    answer.usage = output->usage;
    if (output->finish) answer.finish = std::move(*output->finish);
    printer.piece(output->text);
  }
  return answers;
}

std::vector<Pending> submit_all(Engine& engine, const GenerateFlags& f,
                                const std::vector<PromptInput>& inputs) {
  std::unique_ptr<ChatTemplate> chat_template;
  if (std::holds_alternative<Conversation>(inputs.front())) {
    chat_template = ChatTemplate::load(engine.options().model_path);
  }
  std::vector<Pending> all;
  for (const PromptInput& input : inputs) {
    Pending pending;
    const auto* ids = std::get_if<TokenIds>(&input);  // these need no tokenizer
    pending.prompt_ids = ids != nullptr ? ids->ids
                                        : to_ids(input, engine.tokenizer(), chat_template.get(),
                                                 f.chat_template_kwargs);
    all.push_back(std::move(pending));
  }
  for (Pending& pending : all) {
    Request request;
    request.prompt_ids = pending.prompt_ids;
    request.n = f.n;
    apply_sampling(f.sampling, engine.generation_config(), request);
    const int64_t room = engine.context_length() - static_cast<int64_t>(pending.prompt_ids.size());
    if (!request.max_new_tokens && room > kDefaultMaxNewTokens)
      request.max_new_tokens = kDefaultMaxNewTokens;
    pending.stream = std::make_shared<TokenStream>(f.n);
    engine.submit(std::move(request), pending.stream);
  }
  return all;
}

struct Totals {
  int prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0;
  bool cut = false;  ///< an answer ended by length
  std::string error;

  void add(const Answer& answer, int choice) {
    if (choice == 0) {
      prompt_tokens += answer.usage.prompt_tokens;
      cached_tokens += answer.usage.cached_tokens;
    }
    completion_tokens += answer.usage.completion_tokens;
    cut = cut || answer.finish.reason == FinishReason::kLength;
    const bool failed = answer.finish.reason == FinishReason::kError ||
                        answer.finish.reason == FinishReason::kAbort;
    if (failed && error.empty())
      error = answer.finish.message.empty() ? "aborted" : answer.finish.message;
  }
};

// For a person at a terminal only; results go to stdout.
void print_totals(const Totals& totals, double seconds, const GenerateFlags& f) {
  if (!is_terminal(stderr) || !is_terminal(stdout)) return;
  std::string line =
      fmt::format("[{} prompt tokens, {} cached; {} new tokens, {:.1f} tokens/s]",
                  totals.prompt_tokens, totals.cached_tokens, totals.completion_tokens,
                  seconds > 0 ? totals.completion_tokens / seconds : 0.0);
  if (totals.cut && !f.sampling.max_new_tokens)
    line += " stopped by length: --max-new-tokens N allows more";
  fmt::print(stderr, "{}\n", dim(line, stderr));
}

void run(const GenerateFlags& f) {
  if (f.n < 1 || f.n > 128) fail(Code::kInvalidArgument, "--n must be 1 to 128, got {}", f.n);
  const std::vector<PromptInput> inputs = read_inputs(f);
  if (!f.verbose) log::set_level(log::Level::kWarn);
  EngineOptions options = to_engine_options(f.engine);
  options.show_progress = true;
  Engine engine(options);
  if (engine.options().skip_tokenizer && !f.json) {
    fail(Code::kInvalidArgument,
         "{} has no tokenizer, so answers have no text: --json prints their ids",
         options.model_path.string());
  }
  const auto start = std::chrono::steady_clock::now();
  std::vector<Pending> all = submit_all(engine, f, inputs);
  Printer printer(f, all.size());
  Totals totals;
  for (size_t i = 0; i < all.size(); ++i) {
    const std::vector<Answer> answers = collect(all[i], f.n, printer);
    for (int choice = 0; choice < f.n; ++choice) {
      const Answer& answer = answers[static_cast<size_t>(choice)];
      printer.answer(i, choice, all[i], answer);
      totals.add(answer, choice);
    }
  }
  print_totals(totals,
               std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), f);
  if (!totals.error.empty()) fail(Code::kInternal, "generation failed: {}", totals.error);
}

}  // namespace

void add_generate(CLI::App& app) {
  CLI::App* verb = app.add_subcommand("generate", "generate text for one prompt or many");
  auto flags = std::make_shared<GenerateFlags>();
  const char* group = "Input and output";
  verb->add_option("-p,--prompt", flags->prompts,
                   "Raw text to continue, no chat template; may be repeated (else stdin)")
      ->allow_extra_args(false)
      ->group(group);
  verb->add_option("--messages", flags->messages,
                   "JSON or JSONL file of chat messages, rendered by the chat template")
      ->type_name("FILE")
      ->take_last()
      ->group(group);
  verb->add_option("--input-ids", flags->input_ids,
                   "Token ids 1,2,3 or a JSONL file with a list of ids a line")
      ->type_name("IDS|FILE")
      ->take_last()
      ->group(group);
  verb->add_option("--chat-template-kwargs", flags->chat_template_kwargs,
                   "JSON object for the chat template")
      ->take_last()
      ->group(group);
  verb->add_option("--n", flags->n, "Answers for each prompt")
      ->capture_default_str()
      ->take_last()
      ->group(group);
  verb->add_flag("--json", flags->json,
                 "One JSON line per answer: prompt_ids, output_ids, text, finish_reason, "
                 "matched_stop, usage")
      ->group(group);
  verb->add_flag("--verbose", flags->verbose, "Show the engine's log on stderr")->group(group);
  add_sampling_flags(*verb, flags->sampling);
  add_engine_flags(*verb, flags->engine);
  verb->footer(fmt::format(
      "--max-new-tokens is {} unless given.\n"
      "Examples:\n"
      "  erne generate -m DIR --prompt \"The capital of France is\" --max-new-tokens 20\n"
      "  erne generate -m DIR --messages chat.json --temperature 0\n"
      "  erne generate -m DIR --input-ids prompts.jsonl --json > answers.jsonl\n"
      "  echo \"Once upon a time\" | erne generate -m DIR --seed 7",
      kDefaultMaxNewTokens));
  verb->callback([flags] { run(*flags); });
}

}  // namespace erne::cli
