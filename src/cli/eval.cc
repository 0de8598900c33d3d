// `erne eval`: how good a model is, by figures of its own. Speed is `erne bench`.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "cli/model_loading.h"
#include "cli/text_flags.h"
#include "cli/verbs.h"
#include "model/checkpoint.h"
#include "model/perplexity.h"
#include "token/tokenizer.h"

namespace erne::cli {
namespace {

struct PplFlags {
  RunFlags model;
  TextFlags text;
  std::string method = "sliding";
  WindowRunOptions run;
  bool json = false;
};

WindowMethod parse_method(const std::string& word) {
  return word == "sliding" ? WindowMethod::kSliding : WindowMethod::kSecondHalf;
}

struct PplRun {
  PerplexityReport report;
  WindowOptions windows;
  TextWindows text;
  DType dtype = DType::kF32;
  std::string device;
  double seconds = 0;  // without loading
};

Json to_json(const PplFlags& flags, const PplRun& run) {
  const PerplexityReport& r = run.report;
  Json out = {{"model_path", flags.model.model_path},
              {"text", flags.text.text},
              {"dtype", std::string(dtype_name(run.dtype))},
              {"device", run.device},
              {"method", flags.method},
              {"window", run.windows.window},
              {"windows", run.text.windows.size()},
              {"text_tokens", run.text.ids.size()},
              {"scored_tokens", r.token_nll.size()},
              {"perplexity", r.perplexity()},
              {"perplexity_stderr", r.perplexity_error()},
              {"nll", r.nll.mean},
              {"nll_stderr", r.nll.standard_error},
              {"computed_tokens", run.text.num_inputs()},
              {"seconds", run.seconds},
              {"tokens_per_s", static_cast<double>(run.text.num_inputs()) / run.seconds}};
  if (run.windows.method == WindowMethod::kSliding) out["stride"] = run.windows.stride;
  return out;
}

void print_text(const PplFlags& flags, const PplRun& run) {
  const PerplexityReport& r = run.report;
  fmt::print("{}, {}, {}\n", flags.model.model_path, dtype_name(run.dtype), run.device);
  fmt::print("{}: {} tokens, {} windows of {}", flags.text.text, run.text.ids.size(),
             run.text.windows.size(), run.windows.window);
  if (run.windows.method == WindowMethod::kSliding) {
    fmt::print(", stride {}\n", run.windows.stride);
  } else {
    fmt::print(", the second half of each scored (as llama.cpp)\n");
  }
  fmt::print("perplexity     {:.4f} ± {:.4f}\n", r.perplexity(), r.perplexity_error());
  fmt::print("nll            {:.6f} ± {:.6f} nats per token\n", r.nll.mean, r.nll.standard_error);
  fmt::print("scored tokens  {}\n", r.token_nll.size());
  fmt::print("speed          {:.0f} tokens/s ({} computed in {:.2f} s)\n",
             static_cast<double>(run.text.num_inputs()) / run.seconds, run.text.num_inputs(),
             run.seconds);
}

void run_ppl(const PplFlags& flags) {
  if (flags.text.text.empty())
    fail(Code::kInvalidArgument, "--text is required: a file with the text to score");
  const std::filesystem::path folder = find_model(flags.model);
  const std::shared_ptr<const Checkpoint> checkpoint = Checkpoint::open(folder);
  PplRun run;
  run.windows = to_window_options(flags.text, parse_method(flags.method),
                                  checkpoint->config().max_position_embeddings);
  const std::unique_ptr<Tokenizer> tokenizer = Tokenizer::load(folder);
  run.text.ids = read_text_ids(flags.text, *tokenizer);
  run.text.windows = cut_windows(static_cast<int64_t>(run.text.ids.size()), run.windows);
  if (run.windows.method == WindowMethod::kSecondHalf && tokenizer->add_bos())
    run.text.window_start = tokenizer->bos_id();
  const std::unique_ptr<Device> device = make_run_device(flags.model);
  const LoadOptions load = to_load_options(flags.model, "auto", *checkpoint);
  const std::unique_ptr<TextModel> model = load_within_memory(checkpoint, *device, load);
  run.dtype = model->dtype();
  run.device = device->info().detail;
  WindowRunOptions options = flags.run;
  options.num_threads = flags.model.threads;
  options.show_progress = true;
  check_run_fits({model.get()}, *device, run.text, options);
  const SystemClock clock;
  const double begin_s = clock.now_s();
  run.report = measure_perplexity(*model, *device, run.text, options);
  run.seconds = clock.now_s() - begin_s;
  flags.json ? fmt::print("{}\n", dump_json(to_json(flags, run))) : print_text(flags, run);
}

void add_eval_ppl(CLI::App& eval) {
  CLI::App* verb = eval.add_subcommand("ppl", "perplexity of a model on a text");
  const auto flags = std::make_shared<PplFlags>();
  add_run_flags(*verb, flags->model, "auto");
  add_text_flags(*verb, flags->text);
  verb->add_option("--method", flags->method,
                   "sliding: every token once, from at least window - stride before it; llama.cpp: "
                   "disjoint windows (512), their second halves")
      ->capture_default_str()
      ->check(CLI::IsMember({"sliding", "llama.cpp"}))
      ->group("Text");
  verb->add_option("--chunk", flags->run.chunk,
                   "Tokens per window and step; logits take batch x chunk x vocabulary x 4 bytes")
      ->capture_default_str();
  verb->add_option("--batch", flags->run.batch, "Windows side by side")->capture_default_str();
  verb->add_option("--page-size", flags->run.block_tokens, "Tokens per KV page")
      ->capture_default_str();
  verb->add_flag("--json", flags->json, "Print one line of JSON");
  verb->footer(
      "The figures do not depend on --chunk, --batch, --page-size or --threads. Exits with 3 where "
      "a logit is not a number.\n"
      "docs/accuracy.md defines the methods.\n"
      "Examples:\n"
      "  erne eval ppl --model-path models/default --text README.md\n"
      "  erne eval ppl --model-path models/default --text wiki.test.raw --method llama.cpp "
      "--window 512\n"
      "  erne eval ppl --model-path models/default --text README.md --dtype float32 --json");
  verb->callback([flags] { run_ppl(*flags); });
}

}  // namespace

void add_eval(CLI::App& app) {
  CLI::App* eval = app.add_subcommand("eval", "measure how well a model predicts");
  eval->require_subcommand(1);
  add_eval_ppl(*eval);
}

}  // namespace erne::cli
