#include "cli/verify_baseline.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "model/checkpoint.h"
#include "model/divergence.h"
#include "token/tokenizer.h"

namespace erne::cli {
namespace {

// A checkpoint and its tokenizer, before any weight is packed.
struct Source {
  explicit Source(const ModelFlags& flags)
      : name(flags.model_path),
        checkpoint(Checkpoint::open(find_model(flags))),
        tokenizer(Tokenizer::load(checkpoint->folder())) {}
  std::string name;
  std::shared_ptr<const Checkpoint> checkpoint;
  std::unique_ptr<Tokenizer> tokenizer;

  int64_t context() const { return checkpoint->config().max_position_embeddings; }
};

// The same ids for both, or comparing what they predict makes no sense.
std::vector<int32_t> read_common_ids(const TextFlags& flags, const Source& model,
                                     const Source& baseline) {
  std::vector<int32_t> ids = read_text_ids(flags, *model.tokenizer);
  const std::vector<int32_t> other = read_text_ids(flags, *baseline.tokenizer);
  if (ids == other) return ids;
  const auto differ = std::mismatch(ids.begin(), ids.end(), other.begin(), other.end());
  fail(Code::kInvalidArgument,
       "{} and {} tokenise the text differently from token {} on: their predictions cannot be "
       "compared",
       model.name, baseline.name, differ.first - ids.begin());
}

struct Comparison {
  DivergenceReport report;
  WindowOptions windows;
  size_t num_windows = 0;
  DType dtype = DType::kF32, baseline_dtype = DType::kF32;
  std::string device;
  double seconds = 0;
  std::vector<std::string> broken;
};

void judge(const BaselineFlags& flags, Comparison& c) {
  const DivergenceReport& r = c.report;
  if (flags.max_kl && !(r.kl.mean <= *flags.max_kl))
    c.broken.push_back(fmt::format("mean KL {:.4g} exceeds {:.4g}", r.kl.mean, *flags.max_kl));
  if (flags.min_top1 && !(r.top1 >= *flags.min_top1))
    c.broken.push_back(
        fmt::format("top-1 agreement {:.4f} is below {:.4f}", r.top1, *flags.min_top1));
}

Json to_json(const RunFlags& model, const BaselineFlags& flags, const Comparison& c) {
  const DivergenceReport& r = c.report;
  const double ratio = std::exp(r.nll_difference.mean);
  return {{"model_path", model.model_path},
          {"baseline", flags.baseline},
          {"text", flags.text.text},
          {"dtype", std::string(dtype_name(c.dtype))},
          {"baseline_dtype", std::string(dtype_name(c.baseline_dtype))},
          {"kv_cache_dtype", model.kv_cache_dtype},
          {"device", c.device},
          {"window", c.windows.window},
          {"stride", c.windows.stride},
          {"windows", c.num_windows},
          {"scored_tokens", r.tokens},
          {"kl_divergence", r.kl.mean},
          {"kl_stderr", r.kl.standard_error},
          {"kl_p99", r.kl_p99},
          {"kl_max", r.kl_max},
          {"top1_agreement", r.top1},
          {"mean_abs_logit_error", r.logit_error},
          {"baseline_perplexity", std::exp(r.baseline_nll.mean)},
          {"perplexity", std::exp(r.nll.mean)},
          {"perplexity_ratio", ratio},
          {"perplexity_ratio_stderr", ratio * r.nll_difference.standard_error},
          {"seconds", c.seconds},
          {"passed", c.broken.empty()},
          {"broken", c.broken}};
}

void print_text(const RunFlags& model, const BaselineFlags& flags, const Comparison& c) {
  const DivergenceReport& r = c.report;
  const double ratio = std::exp(r.nll_difference.mean);
  fmt::print("model      {}, {}\n", model.model_path, dtype_name(c.dtype));
  fmt::print("baseline   {}, {}\n", flags.baseline, dtype_name(c.baseline_dtype));
  fmt::print("text       {}: {} tokens scored, {} windows of {}, stride {}\n", flags.text.text,
             r.tokens, c.num_windows, c.windows.window, c.windows.stride);
  fmt::print("device     {}, {:.2f} s\n\n", c.device, c.seconds);
  fmt::print(
      "KL(baseline || model)  {:.4e} ± {:.1e} nats; 99 % of tokens below {:.4e}; max {:.4e}\n",
      r.kl.mean, r.kl.standard_error, r.kl_p99, r.kl_max);
  fmt::print("top-1 agreement        {:.3f} %\n", 100 * r.top1);
  fmt::print("mean |logit error|     {:.4e}\n", r.logit_error);
  fmt::print("perplexity             {:.4f}, baseline {:.4f}\n", std::exp(r.nll.mean),
             std::exp(r.baseline_nll.mean));
  fmt::print("ratio                  {:.6f} ± {:.6f}\n", ratio,
             ratio * r.nll_difference.standard_error);
  for (const std::string& bound : c.broken) fmt::print("BROKEN: {}\n", bound);
  if (flags.max_kl || flags.min_top1)
    fmt::print("{}\n", c.broken.empty() ? "passed: every bound holds" : "failed");
}

}  // namespace

void add_baseline_flags(CLI::App& app, BaselineFlags& flags) {
  const char* group = "Baseline";
  app.add_option("--baseline", flags.baseline,
                 "Compare with this model on --text: a folder, .gguf file or hub id")
      ->type_name("DIR")
      ->group(group);
  app.add_option("--baseline-dtype", flags.dtype, "Precision of the baseline")
      ->capture_default_str()
      ->group(group);
  app.add_option("--max-kl", flags.max_kl, "Exit with 1 where the mean KL (nats) is above this")
      ->group(group);
  app.add_option("--min-top1", flags.min_top1,
                 "Exit with 1 where the top-1 agreement (0 to 1) is below this")
      ->group(group);
  add_text_flags(app, flags.text);
}

bool verify_against_baseline(const RunFlags& model_flags, const BaselineFlags& flags,
                             const WindowRunOptions& options, bool json) {
  ModelFlags baseline_flags;
  baseline_flags.model_path = flags.baseline;
  baseline_flags.download_dir = model_flags.download_dir;
  const Source source(model_flags);
  const Source baseline_source(baseline_flags);
  Comparison c;
  c.windows = to_window_options(flags.text, WindowMethod::kSliding,
                                std::min(source.context(), baseline_source.context()));
  TextWindows text;
  text.ids = read_common_ids(flags.text, source, baseline_source);
  text.windows = cut_windows(static_cast<int64_t>(text.ids.size()), c.windows);
  c.num_windows = text.windows.size();
  const std::unique_ptr<Device> device = make_run_device(model_flags);
  const auto load = [&](const Source& from, const RunFlags& run) {
    return load_within_memory(from.checkpoint, *device,
                              to_load_options(run, "auto", *from.checkpoint));
  };
  RunFlags baseline_weights;
  baseline_weights.dtype = flags.dtype;
  const auto baseline = load(baseline_source, baseline_weights);
  const auto model = load(source, model_flags);
  c.dtype = model->dtype();
  c.baseline_dtype = baseline->dtype();
  c.device = device->info().detail;
  check_run_fits({baseline.get(), model.get()}, *device, text, options);
  const SystemClock clock;
  const double begin_s = clock.now_s();
  c.report = measure_divergence(*baseline, *model, *device, text, options);
  c.seconds = clock.now_s() - begin_s;
  judge(flags, c);
  if (json) {
    fmt::print("{}\n", dump_json(to_json(model_flags, flags, c)));
  } else {
    print_text(model_flags, flags, c);
  }
  return c.broken.empty();
}

}  // namespace erne::cli
