// `erne verify`: a checkpoint held against goldens of the reference implementation; exits with 1
// where a bound is broken.
#include "model/verify.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "base/error.h"
#include "base/json.h"
#include "cli/engine_flags.h"
#include "cli/verbs.h"
#include "cpu/cpu_device.h"
#include "model/checkpoint.h"

namespace erne::cli {
namespace {

struct VerifyFlags {
  ModelFlags model;
  WeightFlags weights{"float32", "none", "", "auto"};
  std::string golden;
  int threads = 0;
  VerifyOptions options;
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

void run(const VerifyFlags& flags) {
  const WeightChoice weights = parse_weight_flags(flags.weights);
  const DType dtype = weights.dtype.value_or(DType::kF32);
  const std::shared_ptr<const Checkpoint> checkpoint = Checkpoint::open(find_model(flags.model));
  const Golden golden = read_golden(flags.golden, checkpoint->config());
  const std::unique_ptr<Device> device = make_cpu_device(flags.threads);
  const auto model = TextModel::load(checkpoint, *device,
                                     {dtype, !flags.json, weights.quantization, weights.inputs});
  const VerifyReport report = verify(*model, *device, golden, flags.options);
  if (flags.json) {
    Json out = {{"model_path", flags.model.model_path},
                {"golden", flags.golden},
                {"dtype", std::string(dtype_name(dtype))},
                {"device", device->info().detail},
                {"chunk", flags.options.chunk},
                {"batch", flags.options.batch},
                {"passed", report.broken.empty()},
                {"broken", report.broken},
                {"sequences", Json::array()}};
    for (const SequenceReport& r : report.sequences) out["sequences"].push_back(to_json(r));
    std::printf("%s\n", dump_json(out).c_str());
  } else {
    std::printf("%s, %s, %s\n", flags.model.model_path.c_str(),
                std::string(dtype_name(dtype)).c_str(), device->info().detail.c_str());
    print_table(report);
  }
  if (!report.broken.empty()) throw CLI::RuntimeError(1);
}

}  // namespace

void add_verify(CLI::App& app) {
  CLI::App* verb = app.add_subcommand(
      "verify", "hold a checkpoint against goldens of the reference implementation");
  const auto flags = std::make_shared<VerifyFlags>();
  add_model_flags(*verb, flags->model);
  verb->add_option("--golden", flags->golden,
                   "golden.safetensors, or JSON with prompt_ids and completion_ids")
      ->required()
      ->check(CLI::ExistingFile);
  add_weight_flags(*verb, flags->weights);
  verb->add_option("--chunk", flags->options.chunk,
                   "prompt tokens per step and sequence; 0: whole prompts");
  verb->add_option("--batch", flags->options.batch, "sequences side by side")
      ->capture_default_str();
  verb->add_option("--page-size", flags->options.block_tokens, "tokens per KV block")
      ->capture_default_str();
  verb->add_option("--threads", flags->threads, "0: all cores");
  verb->add_flag("--json", flags->json, "print one JSON object");
  verb->footer(
      "Prints per sequence: largest and mean |error| of the logits, KL divergence, top-1 agreement "
      "and how many greedy\n"
      "ids agree. Exits with 1 where a bound is broken: float32 5e-6 of the largest |logit| (and "
      "of "
      "the largest hidden\n"
      "value, where the golden has them) and identical greedy ids;\n"
      "bfloat16 a mean error of at most 1.2 times the reference's own.\n"
      "Examples:\n"
      "  erne verify --model-path tests/goldens/text/moe --golden "
      "tests/goldens/text/moe/golden.safetensors\n"
      "  erne verify --model-path tests/goldens/text/moe --golden "
      "tests/goldens/text/moe/golden.safetensors \\\n"
      "      --dtype bfloat16 --chunk 7 --batch 4\n"
      "  erne verify --model-path models/default --golden tests/goldens/default-model/shared.json");
  verb->callback([flags] { run(*flags); });
}

}  // namespace erne::cli
