// `erne bench one-batch`: latency of one batch through the model runner alone (spec bench.md 2).
#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <memory>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "bench/offline.h"
#include "bench/one_batch.h"
#include "cli/engine_flags.h"
#include "cli/verbs.h"

namespace erne::cli {
namespace {

constexpr uint64_t kPromptSeed = 42;
constexpr int kShownSteps = 5;

struct OneBatchFlags {
  EngineFlags engine;
  std::string run_name = "default";
  std::vector<int> batch_size = {1};
  std::vector<int> input_len = {1024};
  std::vector<int> output_len = {16};
  std::string prompt_filename;
  std::string result_filename = "result.jsonl";
  int log_decode_step = 0;
  bool correctness_test = false;
  int cut_len = 4;
  bool profile = false;
  bool json = false;
};

using Prompts = std::vector<std::vector<int32_t>>;

Prompts random_prompts(int batch, int input_len, int64_t vocab_size) {
  Prompts prompts;
  for (bench::BenchRequest& request :
       bench::fixed_requests(batch, input_len, 1, vocab_size, kPromptSeed)) {
    prompts.push_back(std::move(request.ids));
  }
  return prompts;
}

// One prompt a line, cut to the input length; the last one is repeated until the batch is full.
Prompts file_prompts(const std::string& filename, int batch, int input_len,
                     const Tokenizer& tokenizer) {
  std::ifstream file(filename);
  if (!file) fail(Code::kNotFound, "--prompt-filename {}: cannot be read", filename);
  Prompts prompts;
  std::string line;
  while (static_cast<int>(prompts.size()) < batch && std::getline(file, line)) {
    std::vector<int32_t> ids = tokenizer.encode_plain(line);
    if (ids.empty()) continue;
    if (static_cast<int>(ids.size()) > input_len) ids.resize(static_cast<size_t>(input_len));
    prompts.push_back(std::move(ids));
  }
  if (prompts.empty())
    fail(Code::kInvalidArgument, "--prompt-filename {}: no prompt in it", filename);
  prompts.resize(static_cast<size_t>(batch), prompts.back());
  return prompts;
}

struct Case {
  int batch, input_len, output_len;
};

bench::OneBatchResult measure(const OneBatchFlags& flags, LoadedModel& model,
                              const EngineOptions& options, const Case& c, bool warmup) {
  const int output_len = warmup ? std::min(32, c.output_len) : c.output_len;
  Prompts prompts =
      flags.prompt_filename.empty()
          ? random_prompts(c.batch, c.input_len, model.config.vocab_size)
          : file_prompts(flags.prompt_filename, c.batch, c.input_len, *model.tokenizer);
  if (warmup) return bench::run_one_batch(model, options, std::move(prompts), output_len);
  if (flags.json) return bench::run_one_batch(model, options, std::move(prompts), output_len);
  bench::OneBatchObserver print;
  print.prefill = [&](double seconds) {
    fmt::print("Prefill. latency: {:6.5f} s, throughput: {:9.2f} token/s\n", seconds,
               static_cast<double>(c.batch) * c.input_len / seconds);
  };
  print.decode = [&](int step, double seconds) {
    if (step >= kShownSteps && (flags.log_decode_step <= 0 || step % flags.log_decode_step != 0))
      return;
    fmt::print("Decode {}. Batch size: {}, latency: {:6.5f} s, throughput: {:9.2f} token/s\n", step,
               c.batch, seconds, c.batch / seconds);
  };
  return bench::run_one_batch(model, options, std::move(prompts), output_len, print);
}

void report(const OneBatchFlags& flags, const Case& c, const bench::OneBatchResult& r) {
  const double prefill_rate = static_cast<double>(c.batch) * c.input_len / r.prefill_s;
  const double median_s = r.median_decode_s();
  const double median_rate = median_s > 0 ? c.batch / median_s : 0;
  const double overall = (static_cast<double>(c.input_len) + c.output_len) * c.batch / r.total_s();
  if (!flags.json && c.output_len > 1) {
    fmt::print("Decode.  median latency: {:6.5f} s, median throughput: {:9.2f} token/s\n", median_s,
               median_rate);
  }
  if (!flags.json)
    fmt::print("Total. latency: {:6.3f} s, throughput: {:9.2f} token/s\n", r.total_s(), overall);
  const OrderedJson line = {
      {"run_name", flags.run_name},        {"batch_size", c.batch},
      {"input_len", c.input_len},          {"output_len", c.output_len},
      {"prefill_latency", r.prefill_s},    {"prefill_throughput", prefill_rate},
      {"median_decode_latency", median_s}, {"median_decode_throughput", median_rate},
      {"total_latency", r.total_s()},      {"overall_throughput", overall}};
  if (flags.json) fmt::print("{}\n", dump_json(line));
  if (flags.result_filename.empty()) return;
  std::ofstream file(flags.result_filename, std::ios::app);
  file << dump_json(line) << '\n';
  if (!file.flush()) fail(Code::kIo, "--result-filename {}: cannot append", flags.result_filename);
}

void run_latency(const OneBatchFlags& flags, LoadedModel& model, const EngineOptions& options) {
  const Case first{flags.batch_size.front(), flags.input_len.front(), flags.output_len.front()};
  std::FILE* const remarks = flags.json ? stderr : stdout;  // scripts read lines of JSON alone
  const int64_t pool = options.max_total_tokens.value();
  const auto fits = [&](const Case& c) {
    return int64_t{c.batch} * (c.input_len + c.output_len + options.page_size) <= pool;
  };
  if (fits(first)) {
    if (!flags.json) fmt::print("Warmup ...\n");
    measure(flags, model, options, first, true);
  }
  if (!flags.json) fmt::print("Benchmark ...\n");
  for (const int batch : flags.batch_size) {
    for (const int input_len : flags.input_len) {
      for (const int output_len : flags.output_len) {
        const Case c{batch, input_len, output_len};
        if (!fits(c)) {
          fmt::print(remarks, "skipping ({}, {}, {}): larger than max_total_tokens {}\n", batch,
                     input_len, output_len, pool);
          continue;
        }
        if (int64_t{input_len} + output_len > options.context_length.value()) {
          fmt::print(remarks, "skipping ({}, {}, {}): longer than the context of {}\n", batch,
                     input_len, output_len, *options.context_length);
          continue;
        }
        report(flags, c, measure(flags, model, options, c, false));
      }
    }
  }
}

// The first logits of the cut prompts, of the whole prompts, and the greedy text.
void run_correctness(const OneBatchFlags& flags, LoadedModel& model, const EngineOptions& options) {
  const std::vector<std::string> texts = {"The capital of France is",
                                          "The capital of the United Kingdom is",
                                          "Today is a sunny day and I like"};
  Prompts prompts;
  for (const std::string& text : texts) prompts.push_back(model.tokenizer->encode_plain(text));
  const auto show = [](const char* name) {
    return [name](size_t sequence, std::span<const float> row) {
      const float top = *std::max_element(row.begin(), row.end());
      fmt::print("{} logits {}: [{:.4f}, {:.4f}, {:.4f} … {:.4f}], largest {:.4f}\n", name,
                 sequence, row[0], row[1], row[2], row.back(), top);
    };
  };
  const int output_len = flags.output_len.front();
  bench::OneBatch batch(model, options, prompts, output_len);
  batch.prefill(0, flags.cut_len, show("prefill (first part)"));
  batch.prefill(flags.cut_len, *options.context_length, show("prefill (whole)"));
  for (int step = 0; step + 1 < output_len; ++step)
    batch.decode(step == 0 ? show("decode") : bench::OneBatch::SeeLogits{});
  for (size_t i = 0; i < texts.size(); ++i)
    fmt::print("========== {} ==========\n{}\n", i, model.tokenizer->decode(batch.tokens(i), true));
}

void run(const OneBatchFlags& flags) {
  if (flags.profile) fail(Code::kUnsupported, "--profile is not available in this version");
  if (flags.json && flags.correctness_test) {
    fail(Code::kInvalidArgument,
         "--json and --correctness-test exclude each other: the test prints text");
  }
  for (const auto* list : {&flags.batch_size, &flags.input_len, &flags.output_len}) {
    for (const int value : *list) {
      if (value < 1)
        fail(Code::kInvalidArgument, "batch sizes and lengths must be at least 1, got {}", value);
    }
  }
  EngineOptions options = to_engine_options(flags.engine);
  options.skip_tokenizer = !flags.correctness_test && flags.prompt_filename.empty();
  LoadedModel model = load_model(options);
  flags.correctness_test ? run_correctness(flags, model, options)
                         : run_latency(flags, model, options);
}

}  // namespace

void add_bench_one_batch(CLI::App& bench) {
  CLI::App* app =
      bench.add_subcommand("one-batch", "latency of one batch through the model runner alone");
  app->footer(
      "Examples:\n"
      "  erne bench one-batch --model-path models/default --batch-size 1 16 --input-len 512 "
      "--output-len 64\n"
      "  erne bench one-batch --model-path models/default --correctness-test");
  const auto f = std::make_shared<OneBatchFlags>();
  add_engine_flags(*app, f->engine);
  const char* group = "One batch";
  app->add_option("--run-name", f->run_name, "Name in the result line")
      ->capture_default_str()
      ->group(group);
  app->add_option("--batch-size,--batch", f->batch_size, "Batch sizes")
      ->capture_default_str()
      ->group(group);
  app->add_option("--input-len", f->input_len, "Prompt lengths")
      ->capture_default_str()
      ->group(group);
  app->add_option("--output-len", f->output_len, "Answer lengths")
      ->capture_default_str()
      ->group(group);
  app->add_option("--prompt-filename", f->prompt_filename,
                  "Prompts, one a line, instead of random ids")
      ->group(group);
  app->add_option("--result-filename", f->result_filename,
                  "Append a JSON line per case; empty for none")
      ->capture_default_str()
      ->group(group);
  app->add_flag("--json", f->json, "A line of JSON per case instead of the text")->group(group);
  app->add_option("--log-decode-step", f->log_decode_step, "Print every so many decode steps")
      ->capture_default_str()
      ->group(group);
  app->add_flag("--correctness-test", f->correctness_test,
                "Print logits and texts of fixed prompts instead")
      ->group(group);
  app->add_option("--cut-len", f->cut_len,
                  "Prompt tokens of the first part of the correctness test")
      ->capture_default_str()
      ->check(CLI::PositiveNumber)
      ->group(group);
  app->add_flag("--profile", f->profile, "Not available in this version")->group(group);
  app->callback([f] {
    log::set_level(log::Level::kWarn);
    run(*f);
  });
}

}  // namespace erne::cli
