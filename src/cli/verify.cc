// `erne verify`: a checkpoint held against goldens of the reference implementation, or against
// another model on a text; exits with 1 where a bound is broken.
#include "model/verify.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "cli/model_loading.h"
#include "cli/verbs.h"
#include "cli/verify_baseline.h"
#include "model/checkpoint.h"

namespace erne::cli {
namespace {

struct VerifyFlags {
  RunFlags model;
  std::string golden;
  BaselineFlags baseline;
  std::optional<int64_t> chunk;
  int batch = 1;
  int page_size = 16;
  bool json = false;
};

Json to_json(const SequenceReport& r) {
  Json j = {{"sequence", r.name},
            {"tokens", r.tokens},
            {"greedy_tokens", r.greedy_tokens},
            {"greedy_equal", r.greedy_equal},
            {"greedy_match", r.greedy_equal == r.greedy_tokens}};
  if (r.greedy_equal != r.greedy_tokens) j["divergence_gap"] = r.divergence_gap;
  if (!r.has_logits) return j;
  j["max_abs_logit"] = r.max_logit;
  j["max_abs_error"] = r.max_error;
  j["mean_abs_error"] = r.mean_error;
  j["relative_max_error"] = r.max_error / r.max_logit;
  j["kl_divergence"] = r.kl;
  j["top1_agreement"] = r.top1;
  j["hidden_relative_error"] = r.hidden_error;
  return j;
}

void print_table(const VerifyReport& report) {
  std::printf("%-9s %7s %12s %12s %12s %12s %8s %10s\n", "sequence", "tokens", "max |err|",
              "of max|l|", "mean |err|", "KL", "top-1", "greedy");
  for (const SequenceReport& r : report.sequences) {
    const std::string greedy = fmt::format("{}/{}", r.greedy_equal, r.greedy_tokens);
    if (r.has_logits) {
      std::printf("%-9s %7lld %12.3e %12.3e %12.3e %12.3e %7.2f%% %10s\n", r.name.c_str(),
                  static_cast<long long>(r.tokens), r.max_error, r.max_error / r.max_logit,
                  r.mean_error, r.kl, 100 * r.top1, greedy.c_str());
    } else {
      std::printf("%-9s %7lld %12s %12s %12s %12s %8s %10s\n", r.name.c_str(),
                  static_cast<long long>(r.tokens), "-", "-", "-", "-", "-", greedy.c_str());
    }
  }
  for (const std::string& bound : report.broken) std::printf("BROKEN: %s\n", bound.c_str());
  std::printf("%s\n", report.broken.empty() ? "passed: every bound holds" : "failed");
}

bool verify_golden(const VerifyFlags& flags) {
  VerifyOptions options{flags.chunk.value_or(0), flags.batch, flags.page_size};
  if (flags.model.device != "cpu") options.f32_bound *= 10;
  const std::shared_ptr<const Checkpoint> checkpoint = Checkpoint::open(find_model(flags.model));
  const Golden golden = read_golden(flags.golden, checkpoint->config());
  const std::unique_ptr<Device> device = make_run_device(flags.model);
  const LoadOptions load = to_load_options(flags.model, "float32", *checkpoint);
  const auto model = load_within_memory(checkpoint, *device, load);
  const VerifyReport report = verify(*model, *device, golden, options);
  if (flags.json) {
    Json out = {{"model_path", flags.model.model_path},
                {"golden", flags.golden},
                {"dtype", std::string(dtype_name(load.dtype))},
                {"kv_cache_dtype", flags.model.kv_cache_dtype},
                {"device", device->info().detail},
                {"chunk", options.chunk},
                {"batch", options.batch},
                {"passed", report.broken.empty()},
                {"broken", report.broken},
                {"sequences", Json::array()}};
    for (const SequenceReport& r : report.sequences) out["sequences"].push_back(to_json(r));
    std::printf("%s\n", dump_json(out).c_str());
  } else {
    std::printf("%s, %s, %s\n", flags.model.model_path.c_str(),
                std::string(dtype_name(load.dtype)).c_str(), device->info().detail.c_str());
    print_table(report);
  }
  return report.broken.empty();
}

// One of the two ways, and no flag of the other.
void check(const VerifyFlags& flags) {
  const BaselineFlags& b = flags.baseline;
  if (flags.golden.empty() == b.baseline.empty()) {
    fail(Code::kInvalidArgument,
         "verify takes {}: --golden FILE (outputs of the reference implementation) or --baseline "
         "DIR with --text FILE (another model)",
         flags.golden.empty() ? "one of" : "only one of");
  }
  if (!b.baseline.empty()) {
    if (b.text.text.empty())
      fail(Code::kInvalidArgument, "--baseline needs --text FILE: what to compare the models on");
    return;
  }
  const std::pair<const char*, bool> given[] = {
      {"--text", !b.text.text.empty()},        {"--window", b.text.window.has_value()},
      {"--stride", b.text.stride.has_value()}, {"--max-tokens", b.text.max_tokens.has_value()},
      {"--max-kl", b.max_kl.has_value()},      {"--min-top1", b.min_top1.has_value()}};
  for (const auto& [flag, is_given] : given) {
    if (is_given) fail(Code::kInvalidArgument, "{} belongs to --baseline, not to --golden", flag);
  }
}

void run(const VerifyFlags& flags) {
  check(flags);
  if (!flags.golden.empty()) {
    if (!verify_golden(flags)) throw CLI::RuntimeError(1);
    return;
  }
  WindowRunOptions options;
  if (flags.chunk) options.chunk = *flags.chunk;
  options.batch = flags.batch;
  options.block_tokens = flags.page_size;
  options.num_threads = flags.model.threads;
  options.show_progress = true;
  if (!verify_against_baseline(flags.model, flags.baseline, options, flags.json))
    throw CLI::RuntimeError(1);
}

}  // namespace

void add_verify(CLI::App& app) {
  CLI::App* verb = app.add_subcommand(
      "verify", "hold a checkpoint against the reference implementation or another model");
  const auto flags = std::make_shared<VerifyFlags>();
  add_run_flags(*verb, flags->model, "float32 with --golden, auto with --baseline");
  verb->add_option("--golden", flags->golden,
                   "golden.safetensors, or JSON with prompt_ids and completion_ids")
      ->check(CLI::ExistingFile);
  add_baseline_flags(*verb, flags->baseline);
  verb->add_option("--chunk", flags->chunk,
                   "tokens per step and sequence (--golden: whole prompts; --baseline: 512)");
  verb->add_option("--batch", flags->batch, "sequences side by side")->capture_default_str();
  verb->add_option("--page-size", flags->page_size, "tokens per KV block")->capture_default_str();
  verb->add_flag("--json", flags->json, "print one JSON object");
  verb->footer(
      "--golden prints per sequence: largest and mean |error| of the logits, KL divergence, top-1 "
      "agreement and how many\n"
      "greedy ids agree. Exits with 1 where a bound is broken: float32 5e-6 of the largest |logit| "
      "(and of the largest\n"
      "hidden value, where the golden has them) and identical greedy ids; bfloat16 a mean error of "
      "at most 1.2 times the\n"
      "reference's own.\n"
      "--baseline prints over a text: KL divergence in nats (mean, 99th percentile, largest), "
      "top-1 "
      "agreement, mean |logit\n"
      "error| and both perplexities (docs/accuracy.md). Exits with 1 only where --max-kl or "
      "--min-top1 is given and broken.\n"
      "Examples:\n"
      "  erne verify --model-path tests/goldens/text/moe --golden "
      "tests/goldens/text/moe/golden.safetensors\n"
      "  erne verify --model-path tests/goldens/text/moe --golden "
      "tests/goldens/text/moe/golden.safetensors \\\n"
      "      --dtype bfloat16 --chunk 7 --batch 4\n"
      "  erne verify --model-path models/default --golden tests/goldens/default-model/shared.json\n"
      "  erne verify --model-path models/default --dtype bfloat16 --baseline models/default --text "
      "README.md --max-kl 0.01");
  verb->callback([flags] { run(*flags); });
}

}  // namespace erne::cli
