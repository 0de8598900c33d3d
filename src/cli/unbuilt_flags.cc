#include "cli/unbuilt_flags.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <string_view>

#include "base/error.h"

namespace erne::cli {
namespace {

struct Unbuilt {
  const char* names;
  const char* feature;
  /// Values, separated by '|', that are what this version does anyway. "*": the flag is a switch
  /// that is always on.
  const char* harmless = "";
};

constexpr const char* kTokenizers = "a tokenizer other than the model's own";
constexpr const char* kTls = "TLS (let a reverse proxy end it)";
constexpr const char* kPriority = "priority scheduling";
constexpr const char* kHicache = "the hierarchical cache";
constexpr const char* kParallel = "running on several devices";
constexpr const char* kGraphs = "graph capture (no GPU in this version)";
constexpr const char* kKernels = "choosing kernels by name";
constexpr const char* kSpeculation = "speculative decoding";
constexpr const char* kGrammar = "structured output";
constexpr const char* kLora = "LoRA adapters";
constexpr const char* kMedia = "image and video input";
constexpr const char* kDisaggregation = "prefill/decode disaggregation";
constexpr const char* kTraces = "tracing";

constexpr Unbuilt kFlags[] = {
    {"--tokenizer-path", kTokenizers},
    {"--tokenizer-mode", kTokenizers, "auto"},
    {"--skip-tokenizer-init", "serving without a tokenizer"},
    {"--trust-remote-code", "remote code", "*"},
    {"--json-model-override-args", "overriding the model's config", "{}"},
    {"--is-embedding", "embedding"},
    {"--model-impl", "other model implementations", "auto"},
    {"--ssl-keyfile", kTls},
    {"--ssl-certfile", kTls},
    {"--ssl-ca-certs", kTls},
    {"--ssl-keyfile-password", kTls},
    {"--enable-ssl-refresh", kTls},
    {"--prefill-max-requests", "limiting requests per prefill"},
    {"--enable-priority-scheduling", kPriority},
    {"--schedule-low-priority-values-first", kPriority},
    {"--priority-scheduling-preemption-threshold", kPriority},
    {"--abort-on-priority-when-disabled", kPriority},
    {"--default-priority-value", kPriority},
    {"--retraction-policy", kPriority, "length"},
    {"--num-continuous-decode-steps", "several decode steps per schedule", "1"},
    {"--disable-overlap-schedule", "overlapped scheduling", "*"},
    {"--sleep-on-idle", "polling when idle", "*"},
    {"--radix-eviction-policy", "other eviction policies", "lru"},
    {"--enable-hierarchical-cache", kHicache},
    {"--hicache-ratio", kHicache},
    {"--hicache-size", kHicache, "0"},
    {"--hicache-write-policy", kHicache},
    {"--hicache-storage-backend", kHicache},
    {"--cpu-offload-gb", "offloading weights", "0"},
    {"--tp-size,--tensor-parallel-size", kParallel, "1"},
    {"--pp-size,--pipeline-parallel-size", kParallel, "1"},
    {"--dp-size,--data-parallel-size", kParallel, "1"},
    {"--ep-size,--ep,--expert-parallel-size", kParallel, "1"},
    {"--enable-dp-attention", kParallel},
    {"--load-balance-method", kParallel, "round_robin"},
    {"--dist-init-addr", kParallel},
    {"--nnodes", kParallel, "1"},
    {"--node-rank", kParallel, "0"},
    {"--base-gpu-id", kParallel},
    {"--gpu-id-step", kParallel},
    {"--enable-eplb", kParallel},
    {"--cuda-graph-max-bs", kGraphs},
    {"--cuda-graph-bs", kGraphs},
    {"--disable-cuda-graph", kGraphs, "*"},
    {"--attention-backend", kKernels},
    {"--sampling-backend", kKernels},
    {"--speculative-algorithm", kSpeculation},
    {"--speculative-draft-model-path", kSpeculation},
    {"--speculative-num-steps", kSpeculation},
    {"--speculative-eagle-topk", kSpeculation},
    {"--speculative-num-draft-tokens", kSpeculation},
    {"--speculative-accept-threshold-single", kSpeculation},
    {"--enable-deterministic-inference", "results that depend on the batch", "*"},
    {"--completion-template", "completion templates"},
    {"--reasoning-parser", "splitting off reasoning", "none"},
    {"--tool-call-parser", "tool calling", "none"},
    {"--enable-auto-tool-choice", "tool calling"},
    {"--preferred-sampling-params", "preferred sampling parameters"},
    {"--grammar-backend", kGrammar, "none"},
    {"--constrained-json-disable-any-whitespace", kGrammar},
    {"--constrained-json-max-whitespace-cnt", kGrammar},
    {"--logprobs-mode", "logprobs after sampling parameters", "raw"},
    {"--enable-custom-logit-processor", "custom logit processors (Python only)"},
    {"--enable-lora", kLora},
    {"--lora-paths", kLora},
    {"--max-lora-rank", kLora},
    {"--lora-target-modules", kLora},
    {"--max-loras-per-batch", kLora},
    {"--max-loaded-loras", kLora},
    {"--lora-eviction-policy", kLora},
    {"--mm-max-concurrent-calls", kMedia},
    {"--mm-per-request-timeout", kMedia},
    {"--limit-mm-data-per-request", kMedia},
    {"--allowed-media-domains", kMedia},
    {"--allowed-local-media-path", kMedia},
    {"--disaggregation-mode", kDisaggregation, "null"},
    {"--disaggregation-transfer-backend", kDisaggregation},
    {"--disaggregation-bootstrap-port", kDisaggregation},
    {"--num-reserved-decode-tokens", kDisaggregation},
    {"--disaggregation-decode-polling-interval", kDisaggregation},
    {"--enable-pd-role-switch", kDisaggregation},
    {"--enable-trace", kTraces},
    {"--otlp-traces-endpoint", kTraces},
    {"--crash-dump-folder", "crash dumps"},
    {"--enable-request-time-stats-logging", "request time statistics"},
    {"--export-metrics-to-file", "metrics files (use --enable-metrics and /metrics)"},
    {"--enable-memory-saver", "sleep mode"},
};

bool harmless(const Unbuilt& flag, const std::vector<std::string>& values) {
  std::string_view rest = flag.harmless;
  if (rest == "*") return true;
  while (!rest.empty()) {
    const size_t bar = rest.find('|');
    if (values.size() == 1 && values.front() == rest.substr(0, bar)) return true;
    rest = bar == std::string_view::npos ? std::string_view{} : rest.substr(bar + 1);
  }
  return false;
}

}  // namespace

void add_unbuilt_flags(CLI::App& app, UnbuiltValues& values) {
  for (const Unbuilt& flag : kFlags) {
    // Whatever follows is taken: the refusal names the flag, not its value.
    app.add_option(flag.names, values[flag.names])
        ->group("")
        ->expected(0, CLI::detail::expected_max_vector_size);
  }
}

void refuse_unbuilt_flags(const CLI::App& app, const UnbuiltValues& values) {
  for (const Unbuilt& flag : kFlags) {
    const std::string first = std::string(flag.names).substr(0, std::string(flag.names).find(','));
    if (app.get_option(first)->count() == 0 || harmless(flag, values.at(flag.names))) continue;
    const bool some_values = *flag.harmless != '\0';
    fail(Code::kUnsupported, "{}: {} is not available in this version of erne{}", first,
         flag.feature,
         some_values ? fmt::format("; only {} is", flag.harmless) : "; leave the flag out");
  }
}

}  // namespace erne::cli
