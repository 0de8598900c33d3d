// `erne bench serving`: loads a running server and prints the reference's report. Order of work,
// flags and texts are those of spec bench.md 1; the parts are
// src/bench/{dataset,serving_client,serving_report}.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <memory>
#include <thread>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/progress.h"
#include "bench/serving_client.h"
#include "bench/serving_report.h"
#include "chat/chat_template.h"
#include "cli/bench_serving_flags.h"
#include "cli/verbs.h"
#include "hub/hub.h"
#include "token/tokenizer.h"

namespace erne::cli {
namespace {

using bench::BenchRequest;
using bench::CurlLoop;
using bench::RequestResult;

constexpr size_t kFileLimit = 65535;
constexpr int kWarmupOutputLen = 32;

std::vector<std::string> request_headers(const ServingFlags& f) {
  std::vector<std::string> headers;
  const char* bearer = std::getenv("OPENAI_API_KEY");
  const char* raw = std::getenv("API_KEY");
  if (bearer != nullptr && *bearer != 0) {
    headers.push_back(fmt::format("Authorization: Bearer {}", bearer));
  } else if (raw != nullptr && *raw != 0) {
    headers.push_back(fmt::format("Authorization: {}", raw));
  }
  for (const std::string& header : f.headers) {
    const size_t equals = header.find('=');
    if (equals == 0 || equals == std::string::npos ||
        header.find_first_of("\r\n") != std::string::npos) {
      fail(Code::kInvalidArgument, "--header takes NAME=VALUE, got \"{}\"", header);
    }
    headers.push_back(header.substr(0, equals) + ": " + header.substr(equals + 1));
  }
  return headers;
}

bench::ServingTarget make_target(const ServingFlags& f) {
  bench::ServingTarget target;
  target.backend = bench::find_backend(f.backend);
  target.base_url = f.base_url;
  while (target.base_url.ends_with('/')) target.base_url.pop_back();
  if (target.base_url.empty()) {
    target.base_url =
        fmt::format("http://{}:{}", f.host, f.port.value_or(target.backend.default_port));
  }
  target.headers = request_headers(f);
  target.body.model = f.served_model_name.empty() ? f.model : f.served_model_name;
  target.body.stream = !f.disable_stream;
  target.body.ignore_eos = !f.disable_ignore_eos;
  target.body.return_logprob = f.return_logprob;
  target.body.send_ids = f.tokenize_prompt;
  target.body.temperature = f.temperature;
  target.body.top_p = f.top_p;
  target.body.extra_body = f.extra_request_body;
  return target;
}

std::string first_served_model(bench::ServingClient& client) {
  const std::string url = client.target().base_url + "/v1/models";
  const bench::HttpAnswer answer = client.get("/v1/models", 30);
  if (answer.status != 200) {
    fail(Code::kIo, "GET {}: {}; name the model with --model", url,
         answer.status == 0 ? answer.error : fmt::format("HTTP {}", answer.status));
  }
  const Json models = parse_json(answer.body, url);
  const auto first = Json::json_pointer("/data/0/id");
  if (!models.contains(first) || !models[first].is_string()) {
    fail(Code::kIo, "GET {} lists no model; name it with --model", url);
  }
  return models[first].get<std::string>();
}

std::vector<BenchRequest> load_dataset(const ServingFlags& f, const std::filesystem::path& folder,
                                       const Tokenizer& tokenizer, bench::NumpyRandom& numbers) {
  bench::DatasetOptions options;
  options.kind = bench::parse_dataset_kind(f.dataset_name);
  options.path = f.dataset_path;
  options.num_prompts = f.num_prompts;
  options.random_input_len = f.random_input_len;
  options.random_output_len = f.random_output_len;
  options.random_range_ratio = f.random_range_ratio;
  options.output_len = f.sharegpt_output_len;
  options.context_len = f.sharegpt_context_len;
  options.prompt_suffix = f.prompt_suffix;
  options.decode_prompt = !f.tokenize_prompt;
  std::unique_ptr<ChatTemplate> chat_template;
  if (f.apply_chat_template) {
    chat_template = ChatTemplate::load(folder);
    options.chat_template = chat_template.get();
  }
  bench::PythonRandom order(f.seed);
  std::vector<BenchRequest> requests = bench::make_dataset(options, tokenizer, numbers, order);
  int64_t input = 0, output = 0;
  for (const BenchRequest& r : requests) {
    input += r.prompt_len;
    output += r.output_len;
  }
  fmt::print("#Input tokens: {}\n#Output tokens: {}\n", input, output);
  std::fflush(stdout);
  return requests;
}

void warm_up(bench::ServingClient& client, const ServingFlags& f, const BenchRequest& first) {
  if (f.warmup_requests == 0) return;
  fmt::print("Starting warmup with {} sequences...\n", f.warmup_requests);
  std::fflush(stdout);
  std::vector<BenchRequest> copies(static_cast<size_t>(f.warmup_requests), first);
  for (BenchRequest& copy : copies) copy.output_len = std::min(copy.output_len, kWarmupOutputLen);
  bench::NumpyRandom unused(0);
  const bench::LoadResult load = client.run(copies, {}, unused, [](const RequestResult&) {});
  const auto completed =
      std::count_if(load.requests.begin(), load.requests.end(), [](auto& r) { return r.success; });
  if (completed == 0) {
    fail(Code::kIo, "warmup failed, the server answered: {}", load.requests.front().error);
  }
  fmt::print("Warmup completed with {} sequences. Starting main benchmark run...\n", completed);
  std::fflush(stdout);
}

void flush_cache(bench::ServingClient& client, double timeout_s) {
  const double deadline = CurlLoop::now_s() + timeout_s;
  for (;;) {
    const bench::HttpAnswer answer = client.post("/flush_cache", 30);
    if (answer.status == 200) return;
    if (CurlLoop::now_s() >= deadline || answer.status == 404) {
      fail(Code::kIo, "POST /flush_cache: {}",
           answer.status == 0
               ? answer.error
               : fmt::format("HTTP {} {}", answer.status, answer.body.substr(0, 300)));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
}

// Absent where the server has no such route or answers something else.
std::string server_info(bench::ServingClient& client) {
  const bench::HttpAnswer answer = client.get("/get_server_info", 30);
  return answer.status == 200 && Json::accept(answer.body) ? answer.body : "";
}

std::optional<double> accept_length(const std::string& info) {
  if (info.empty()) return std::nullopt;
  const Json json = parse_json(info, "/get_server_info");
  for (const char* path : {"/internal_states/0/avg_spec_accept_length",
                           "/decode/0/internal_states/0/avg_spec_accept_length"}) {
    const Json::json_pointer pointer(path);
    if (json.contains(pointer) && json[pointer].is_number()) return json[pointer].get<double>();
  }
  return std::nullopt;
}

std::string default_output_file(const ServingFlags& f) {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  const std::string start =
      fmt::format("{}_{:02}{:02}_{}", f.backend, local.tm_mon + 1, local.tm_mday, f.num_prompts);
  if (f.dataset_name.starts_with("random")) {
    return fmt::format("{}_{}_{}.jsonl", start, f.random_input_len, f.random_output_len);
  }
  return fmt::format("{}_{}.jsonl", start, f.dataset_name);
}

void append_line(const std::string& path, const std::string& line) {
  std::ofstream file(path, std::ios::app | std::ios::binary);
  file << line << '\n';
  file.flush();
  if (!file) fail(Code::kIo, "cannot append to {}; choose another place with --output-file", path);
}

bench::ServingRun describe(const ServingFlags& f, std::string info) {
  bench::ServingRun run;
  run.tag = f.tag;
  run.backend = f.backend;
  run.dataset_name = f.dataset_name;
  run.request_rate = f.request_rate;
  run.max_concurrency = f.max_concurrency;
  run.sharegpt_output_len = f.sharegpt_output_len;
  run.random_input_len = f.random_input_len;
  run.random_output_len = f.random_output_len;
  run.random_range_ratio = f.random_range_ratio;
  run.server_info = std::move(info);
  return run;
}

void report(const ServingFlags& f, bench::LoadResult load, double duration_s, std::string info,
            const Tokenizer& tokenizer) {
  auto count_tokens = [&](const std::string& text) {
    return static_cast<int>(tokenizer.encode(text).size());
  };
  const std::optional<double> accepted = accept_length(info);
  if (accepted.value_or(0) > 0 && f.backend.starts_with("sglang-oai")) {
    bench::split_itl_by_tokens(load.requests, count_tokens);
  }
  bench::ServingMetrics metrics = bench::compute_metrics(load.requests, duration_s, count_tokens);
  metrics.accept_length = accepted;
  if (!f.goodput.empty()) {
    metrics.goodput =
        bench::goodput(load.requests, bench::parse_service_goal(f.goodput), duration_s);
  }
  const bench::ServingRun run = describe(f, std::move(info));
  const auto kind =
      f.report == "extended" ? bench::ReportKind::kExtended : bench::ReportKind::kStandard;
  fmt::print("{}", bench::format_report(run, metrics, kind));
  std::fflush(stdout);
  const std::span<const RequestResult> details = load.requests;
  append_line(f.output_file.empty() ? default_output_file(f) : f.output_file,
              bench::json_line(run, metrics, f.output_details ? details : details.first(0)));
  const auto failed =
      std::find_if(load.requests.begin(), load.requests.end(), [](auto& r) { return !r.success; });
  if (failed == load.requests.end()) return;
  if (metrics.completed == 0)
    fail(Code::kIo, "all {} requests failed; the first: {}", details.size(), failed->error);
  log::warn("{} of {} requests failed; the first: {}",
            details.size() - static_cast<size_t>(metrics.completed), details.size(), failed->error);
}

void wait_for_server(bench::ServingClient& client, double timeout_s) {
  std::string why;
  if (client.wait_until_ready(timeout_s, why)) return;
  fail(Code::kIo,
       "{} is not ready after {} s: {}; start it with `erne serve`, or set --base-url or --port",
       client.target().base_url, timeout_s, why);
}

void run(ServingFlags f) {
  check_serving_flags(f);
  bench::check_dataset(bench::parse_dataset_kind(f.dataset_name), f.dataset_path);
  bench::NumpyRandom numbers(f.seed);
  bench::ServingClient client(make_target(f));
  const size_t files = bench::raise_file_limit(kFileLimit);
  wait_for_server(client, f.ready_check_timeout);
  if (f.model.empty()) {
    f.model = first_served_model(client);
    if (f.served_model_name.empty()) client.set_model(f.model);
  }
  const std::filesystem::path folder =
      resolve_model(f.tokenizer.empty() ? f.model : f.tokenizer, HubOptions{});
  const std::unique_ptr<Tokenizer> tokenizer = Tokenizer::load(folder);
  const std::vector<BenchRequest> requests = load_dataset(f, folder, *tokenizer, numbers);
  const size_t wanted =
      std::min(requests.size(), static_cast<size_t>(f.max_concurrency.value_or(1 << 30)));
  if (files < wanted + 64) {
    log::warn("only {} files may be open, fewer than {} connections; raise `ulimit -n`", files,
              wanted);
  }
  warm_up(client, f, requests.front());
  if (f.flush_cache) flush_cache(client, f.flush_cache_timeout);
  std::this_thread::sleep_for(std::chrono::seconds(1));

  Progress progress("requests", requests.size(), ProgressUnit::kItems, !f.disable_tqdm);
  auto on_done = [&](const RequestResult& result) {
    progress.add(1);
    if (!f.print_requests) return;
    fmt::print("{}\n", result.success ? result.text : "error: " + result.error);
  };
  bench::LoadResult load =
      client.run(requests, {.request_rate = f.request_rate, .max_concurrency = f.max_concurrency},
                 numbers, on_done);
  std::string info = server_info(client);
  const double duration_s = CurlLoop::now_s() - load.start_s;
  report(f, std::move(load), duration_s, std::move(info), *tokenizer);
}

}  // namespace

void add_bench_serving(CLI::App& bench) {
  CLI::App* app =
      bench.add_subcommand("serving", "load a running server and report latency and throughput");
  auto flags = std::make_shared<ServingFlags>();
  add_serving_flags(*app, *flags);
  app->footer(
      "Examples:\n"
      "  erne bench serving --dataset-name random-ids --num-prompts 80 --random-input-len 1000 \\\n"
      "      --random-output-len 1000 --max-concurrency 16\n"
      "  erne bench serving --backend vllm --model NAME --tokenizer DIR --dataset-name random \\\n"
      "      --dataset-path ShareGPT.json --request-rate 4\n"
      "  erne bench serving --backend erne-chat --dataset-name custom --dataset-path mine.jsonl\n"
      "The server must run already: erne serve --model-path DIR");
  app->callback([flags] { run(*flags); });
}

}  // namespace erne::cli
