// `erne bench offline`: throughput of the engine in this process, on a dataset or on a batch of
// equal requests.
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <memory>
#include <thread>

#include "base/error.h"
#include "base/log.h"
#include "bench/dataset.h"
#include "bench/offline.h"
#include "bench/roofline.h"
#include "cli/engine_flags.h"
#include "cli/refused_flags.h"
#include "cli/verbs.h"
#include "model/config.h"
#include "token/tokenizer.h"

namespace erne::cli {
namespace {

using namespace std::chrono_literals;

struct OfflineFlags {
  EngineFlags engine;
  // A batch of equal requests.
  std::optional<int> input_len, output_len, batch;
  // A dataset.
  std::string dataset_name = "random-ids";
  std::string dataset_path;
  bench::DatasetOptions dataset;
  int seed = 1;
  std::string result_filename;
  bool json = false;
  bool skip_warmup = false;
  bool return_logprob = false;
  bool skip_roofline = false;
};

void warm_up(Engine& engine, int count, int input_len, int output_len) {
  constexpr uint64_t kWarmupSeed = 0x57A2;
  const auto requests =
      bench::fixed_requests(count, input_len, output_len, engine.config().vocab_size, kWarmupSeed);
  if (bench::run_offline(engine, requests, false).successful == 0) {
    fail(Code::kInternal, "the warm-up failed, see the errors above");
  }
  std::this_thread::sleep_for(500ms);
}

void print(const OfflineFlags& flags, const bench::OfflineResult& result,
           const std::optional<bench::ShapeReport>& shape) {
  const std::string line = bench::offline_json(result, shape);
  if (flags.json) {
    fmt::print("{}\n", line);
  } else {
    fmt::print("{}", bench::offline_report(result));
    if (shape) fmt::print("{}", bench::shape_text(*shape));
  }
  if (flags.result_filename.empty()) return;
  std::ofstream file(flags.result_filename, std::ios::app);
  file << line << '\n';
  if (!file.flush()) fail(Code::kIo, "cannot append to {}", flags.result_filename);
}

// Measured after the run, so that the run sees a quiet machine; the peak is that of the best
// instruction set.
void add_limits(bench::ShapeReport& shape) {
  const bench::Roofline roofline = bench::measure_roofline(shape.threads);
  const bench::RooflinePoint& point = roofline.points.back();
  shape.read_gb_per_s = point.read_gb_per_s;
  const DType dtype = shape.dtype == "bfloat16" ? DType::kBF16 : DType::kF32;
  shape.peak_gflops = bench::best_peak_gflops(point, dtype);
}

void run_shape(const OfflineFlags& flags) {
  const int batch = flags.batch.value_or(1);
  const int input_len = flags.input_len.value_or(512);
  const int output_len = flags.output_len.value_or(128);
  if (batch < 1 || input_len < 1 || output_len < 1) {
    fail(Code::kInvalidArgument,
         "--batch, --input-len and --output-len must be at least 1, got {}, {} and {}", batch,
         input_len, output_len);
  }
  EngineOptions options = to_engine_options(flags.engine);
  options.skip_tokenizer = true;
  options.disable_radix_cache = true;
  options.enable_mixed_chunk = false;  // prompts first, so that the two rates do not mix
  options.max_running_requests = std::max(options.max_running_requests, batch);
  Engine engine(options);
  if (!flags.skip_warmup)
    warm_up(engine, std::min(batch, 16), std::min(input_len, 256), std::min(output_len, 16));
  const auto requests = bench::fixed_requests(
      batch, input_len, output_len, engine.config().vocab_size, static_cast<uint64_t>(flags.seed));
  const bench::OfflineResult result = bench::run_offline(engine, requests, flags.return_logprob);
  bench::ShapeReport shape = bench::shape_report(engine, result, batch, input_len, output_len);
  if (options.device == "cpu" && !flags.skip_roofline) add_limits(shape);
  print(flags, result, shape);
  if (result.successful < batch)
    fail(Code::kInternal, "{} of {} requests failed", batch - result.successful, batch);
}

void run_dataset(const OfflineFlags& flags) {
  bench::DatasetOptions dataset = flags.dataset;
  dataset.kind = bench::parse_dataset_kind(flags.dataset_name);
  dataset.path = flags.dataset_path;
  bench::check_dataset(dataset.kind, dataset.path);
  Engine engine(to_engine_options(flags.engine));
  dataset.decode_prompt = false;
  bench::NumpyRandom numbers(static_cast<uint32_t>(flags.seed));
  bench::PythonRandom order(static_cast<uint32_t>(flags.seed));
  const std::vector<bench::BenchRequest> requests =
      bench::make_dataset(dataset, engine.tokenizer(), numbers, order);
  if (!flags.skip_warmup) warm_up(engine, std::min(static_cast<int>(requests.size()), 16), 256, 16);
  engine.flush_cache();
  const bench::OfflineResult result = bench::run_offline(engine, requests, flags.return_logprob);
  print(flags, result, std::nullopt);
  if (result.successful == 0) fail(Code::kInternal, "all requests failed");
}

void add_flags(CLI::App& app, OfflineFlags& f) {
  const char* shape = "A batch of equal requests";
  app.add_option("--input-len", f.input_len, "Prompt tokens of each request (512)")->group(shape);
  app.add_option("--output-len", f.output_len, "Tokens to generate for each (128)")->group(shape);
  app.add_option("--batch", f.batch, "Requests (1)")->group(shape);
  app.add_flag("--skip-roofline", f.skip_roofline,
               "Do not measure the machine's limits beside the result")
      ->group(shape);

  const char* data = "Dataset";
  app.add_option("--dataset-name", f.dataset_name, "random, random-ids, sharegpt, custom")
      ->capture_default_str()
      ->group(data);
  app.add_option("--dataset-path", f.dataset_path, "File of the dataset")->group(data);
  app.add_option("--num-prompts", f.dataset.num_prompts, "Number of requests")
      ->capture_default_str()
      ->group(data);
  app.add_option("--random-input-len", f.dataset.random_input_len, "Longest random prompt")
      ->capture_default_str()
      ->group(data);
  app.add_option("--random-output-len", f.dataset.random_output_len, "Longest random answer")
      ->capture_default_str()
      ->group(data);
  app.add_option("--random-range-ratio", f.dataset.random_range_ratio,
                 "Shortest as a share of longest")
      ->capture_default_str()
      ->group(data);
  app.add_option("--sharegpt-output-len", f.dataset.output_len,
                 "Answer length instead of the dataset's")
      ->group(data);
  app.add_option("--sharegpt-context-len", f.dataset.context_len, "Drop longer conversations")
      ->group(data);
  app.add_option("--prompt-suffix", f.dataset.prompt_suffix, "Text to append to each prompt")
      ->group(data);
  app.add_option("--seed", f.seed, "Seed of lengths and ids")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber)
      ->group(data);

  const char* report = "Report";
  app.add_flag("--json", f.json, "One line of JSON instead of the table")->group(report);
  app.add_option("--result-filename", f.result_filename, "Append the JSON line to this file")
      ->group(report);
  app.add_flag("--skip-warmup", f.skip_warmup, "Measure cold")->group(report);
  add_refused_flags(app, {{"--do-not-exit", ""},
                          {"--logprob-start-len", "--return-logprob covers the generated tokens"}});
  app.add_flag("--return-logprob", f.return_logprob, "Compute logprobs of the generated tokens too")
      ->group(report);
}

}  // namespace

void add_bench_offline(CLI::App& bench) {
  CLI::App* app =
      bench.add_subcommand("offline", "throughput of the engine in this process, no HTTP");
  app->footer(
      "Examples:\n"
      "  erne bench offline --model-path models/default --input-len 512 --output-len 128\n"
      "  erne bench offline --model-path models/default --batch 16 --input-len 128 --output-len 64 "
      "--json\n"
      "  erne bench offline --model-path models/default --dataset-name random-ids --num-prompts "
      "50\n\n"
      "--input-len, --output-len or --batch measure a batch of equal requests, with prefill and "
      "decode rates\n"
      "beside what the machine can do; else a dataset runs.");
  const auto flags = std::make_shared<OfflineFlags>();
  add_engine_flags(*app, flags->engine);
  add_flags(*app, *flags);
  app->callback([flags] {
    log::set_level(log::Level::kWarn);
    const bool shape = flags->input_len || flags->output_len || flags->batch;
    shape ? run_shape(*flags) : run_dataset(*flags);
  });
}

}  // namespace erne::cli
