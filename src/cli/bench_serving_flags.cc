#include "cli/bench_serving_flags.h"

#include <CLI/CLI.hpp>

#include "base/error.h"
#include "bench/serving_backend.h"
#include "bench/serving_report.h"
#include "cli/refused_flags.h"

namespace erne::cli {
namespace {

void add_server_flags(CLI::App& app, ServingFlags& f) {
  const char* group = "Server";
  app.add_option("--backend", f.backend, "How to talk to the server")
      ->check(CLI::IsMember(bench::backend_names()))
      ->capture_default_str()
      ->group(group);
  app.add_option("--base-url", f.base_url, "http://HOST:PORT, instead of --host and --port")
      ->group(group);
  app.add_option("--host", f.host, "Server address")->capture_default_str()->group(group);
  app.add_option("--port", f.port, "Server port (30000; vllm 8000; lmdeploy 23333)")->group(group);
  app.add_option("--model", f.model, "Model name to send (the server's first)")->group(group);
  app.add_option("--served-model-name", f.served_model_name,
                 "Name to send, if it differs from --model")
      ->group(group);
  app.add_option("--tokenizer", f.tokenizer, "Folder or hub id of the tokenizer (--model)")
      ->group(group);
  app.add_option("--header", f.headers, "Extra header K=V; may be repeated")
      ->group(group)
      ->allow_extra_args(false)
      ->take_all();
  app.add_option("--ready-check-timeout-sec", f.ready_check_timeout, "Wait so long for /health")
      ->capture_default_str()
      ->group(group);
  app.add_flag("--flush-cache", f.flush_cache, "Empty the server's prefix cache before the run")
      ->group(group);
  app.add_option("--flush-cache-timeout", f.flush_cache_timeout, "Seconds to try that")
      ->capture_default_str()
      ->group(group);
}

void add_dataset_flags(CLI::App& app, ServingFlags& f) {
  const char* group = "Dataset";
  app.add_option("--dataset-name", f.dataset_name, "random, random-ids, sharegpt or custom")
      ->capture_default_str()
      ->group(group);
  app.add_option("--dataset-path", f.dataset_path,
                 "ShareGPT JSON (random, sharegpt) or JSON lines (custom)")
      ->type_name("FILE")
      ->group(group);
  app.add_option("--num-prompts", f.num_prompts, "Requests")->capture_default_str()->group(group);
  app.add_option("--random-input-len", f.random_input_len, "Longest random prompt")
      ->capture_default_str()
      ->group(group);
  app.add_option("--random-output-len", f.random_output_len, "Longest random answer")
      ->capture_default_str()
      ->group(group);
  app.add_option("--random-range-ratio", f.random_range_ratio, "Shortest as a share of longest")
      ->capture_default_str()
      ->group(group);
  app.add_option("--sharegpt-output-len", f.sharegpt_output_len,
                 "Answer length instead of the second turn's")
      ->group(group);
  app.add_option("--sharegpt-context-len", f.sharegpt_context_len, "Drop longer conversations")
      ->group(group);
  app.add_option("--prompt-suffix", f.prompt_suffix, "Appended to sharegpt and custom prompts")
      ->group(group);
  app.add_flag("--apply-chat-template", f.apply_chat_template,
               "Render sharegpt and custom prompts as a chat")
      ->group(group);
  app.add_flag("--tokenize-prompt", f.tokenize_prompt,
               "Send token ids: exact lengths (/generate only)")
      ->group(group);
  app.add_option("--seed", f.seed, "Seed of lengths, shuffles and arrivals")
      ->capture_default_str()
      ->group(group);
}

void add_load_flags(CLI::App& app, ServingFlags& f) {
  const char* group = "Load";
  app.add_option("--request-rate", f.request_rate,
                 "Requests a second, Poisson; inf sends all at once")
      ->capture_default_str()
      ->group(group);
  app.add_option("--max-concurrency", f.max_concurrency, "Requests in flight at most")
      ->group(group);
  app.add_option("--warmup-requests", f.warmup_requests,
                 "Copies of request 0 sent before the run; 0: none")
      ->capture_default_str()
      ->group(group);
  app.add_option("--temperature", f.temperature, "Sampling temperature")
      ->capture_default_str()
      ->group(group);
  app.add_option("--top-p", f.top_p, "Nucleus sampling")->group(group);
  app.add_flag("--disable-ignore-eos", f.disable_ignore_eos, "Let answers end early")->group(group);
  app.add_flag("--disable-stream", f.disable_stream, "Ask for whole answers (TTFT = latency)")
      ->group(group);
  app.add_flag("--return-logprob", f.return_logprob, "Ask for log probabilities (/generate only)")
      ->group(group);
  app.add_option("--extra-request-body", f.extra_request_body,
                 "JSON object merged into every request")
      ->group(group);
}

void add_output_flags(CLI::App& app, ServingFlags& f) {
  const char* group = "Output";
  app.add_option("--output-file", f.output_file,
                 "JSON lines file to append to (named after the run)")
      ->type_name("FILE")
      ->group(group);
  app.add_flag("--output-details", f.output_details, "Add per-request lists to the JSON line")
      ->group(group);
  app.add_option("--report", f.report, "standard, or extended (more percentiles, goodput)")
      ->check(CLI::IsMember({"standard", "extended"}))
      ->capture_default_str()
      ->group(group);
  app.add_option("--goodput", f.goodput,
                 "Goals ttft:MS,tpot:MS,e2el:MS; counts the requests that met them")
      ->group(group);
  app.add_option("--tag", f.tag, "Text kept in the JSON line")->group(group);
  app.add_flag("--print-requests", f.print_requests, "Print every answer")->group(group);
  app.add_flag("--disable-tqdm", f.disable_tqdm, "No progress bar")->group(group);
}

void add_refused(CLI::App& app) {
  add_refused_flags(app, {{"--profile", ""},
                          {"--plot-throughput", "plot the JSON line of --output-details"},
                          {"--use-trace-timestamps", ""},
                          {"--pd-separated", ""},
                          {"--cache-report", "the server's own counters are at /metrics"},
                          {"--top-logprobs-num", "use --extra-request-body"},
                          {"--lora-name", ""},
                          {"--lora-request-distribution", ""},
                          {"--lora-zipf-alpha", ""},
                          {"--image-count", ""},
                          {"--image-resolution", ""},
                          {"--random-image-count", ""},
                          {"--image-format", ""},
                          {"--image-content", ""},
                          {"--gsp-num-groups", ""},
                          {"--gsp-prompts-per-group", ""},
                          {"--gsp-system-prompt-len", ""},
                          {"--gsp-question-len", ""},
                          {"--gsp-output-len", ""},
                          {"--gsp-range-ratio", ""},
                          {"--gsp-fast-prepare", ""},
                          {"--gsp-send-routing-key", ""},
                          {"--gsp-num-turns", ""},
                          {"--mooncake-slowdown-factor", ""},
                          {"--mooncake-num-rounds", ""},
                          {"--mooncake-workload", ""}});
}

}  // namespace

void add_serving_flags(CLI::App& app, ServingFlags& flags) {
  app.option_defaults()->take_last();  // as the reference: a flag given twice takes its last value
  add_server_flags(app, flags);
  add_dataset_flags(app, flags);
  add_load_flags(app, flags);
  add_output_flags(app, flags);
  add_refused(app);
}

void check_serving_flags(const ServingFlags& f) {
  const bool generate = bench::find_backend(f.backend).api == bench::Api::kGenerate;
  if (f.tokenize_prompt && !generate) {
    fail(Code::kInvalidArgument,
         "--tokenize-prompt sends token ids, which --backend {} cannot take; use sglang or erne",
         f.backend);
  }
  if (f.return_logprob && !generate) {
    fail(Code::kInvalidArgument,
         "--return-logprob works with /generate only; for --backend {} use --extra-request-body "
         "'{{\"logprobs\":1}}'",
         f.backend);
  }
  if (!(f.request_rate > 0))
    fail(Code::kInvalidArgument, "--request-rate must be above 0, got {}", f.request_rate);
  if (f.max_concurrency && *f.max_concurrency < 1) {
    fail(Code::kInvalidArgument, "--max-concurrency must be at least 1, got {}",
         *f.max_concurrency);
  }
  if (f.warmup_requests < 0) {
    fail(Code::kInvalidArgument, "--warmup-requests must be 0 or more, got {}", f.warmup_requests);
  }
  const bool conversations = f.dataset_name == "sharegpt" || f.dataset_name == "custom";
  if (!conversations && (f.apply_chat_template || !f.prompt_suffix.empty())) {
    fail(Code::kInvalidArgument,
         "--apply-chat-template and --prompt-suffix need --dataset-name sharegpt or custom");
  }
  if (!f.goodput.empty()) bench::parse_service_goal(f.goodput);
}

}  // namespace erne::cli
