// `erne bench roofline`: the machine's own limits, for every other figure to be compared with, and
// how near the parts of a model's step come to them.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <fstream>
#include <memory>

#include "base/error.h"
#include "base/json.h"
#include "bench/roofline.h"
#include "bench/roofline_plot.h"
#include "bench/step_profile.h"
#include "cli/model_loading.h"
#include "cli/verbs.h"
#include "model/checkpoint.h"

namespace erne::cli {
namespace {

constexpr int kPrefillRuns = 5;
constexpr int kDecodeRuns = 20;
constexpr int kCardRuns = 5;

struct RooflineFlags {
  RunFlags model;
  std::string load_format = "auto";
  std::string plot;
  double limit_gbps = 0, limit_tflops = 0;
  bool json = false;

  bool on_cpu() const { return model.device == "cpu"; }
};

std::vector<bench::StepProfile> profile(const RooflineFlags& flags,
                                        const bench::RooflinePoint& limits) {
  const std::filesystem::path folder = find_model(flags.model);
  std::shared_ptr<const Checkpoint> checkpoint =
      parse_load_format(flags.load_format) == LoadFormat::kDummy ? Checkpoint::dummy(folder)
                                                                 : Checkpoint::open(folder);
  const TextConfig config = checkpoint->config();
  const std::unique_ptr<Device> device = make_run_device(flags.model);
  const LoadOptions load = to_load_options(flags.model, "auto", *checkpoint);
  const auto model = load_within_memory(std::move(checkpoint), *device, load);
  std::vector<bench::StepProfile> steps;
  for (const bench::StepShape& shape :
       flags.on_cpu() ? bench::usual_shapes(config) : bench::card_shapes(config)) {
    const int runs = !flags.on_cpu() ? kCardRuns : shape.tokens > 1 ? kPrefillRuns : kDecodeRuns;
    steps.push_back(bench::profile_step(*model, *device, shape, limits, runs));
  }
  return steps;
}

// The limits of a GPU are told, not measured; without them shares are left out.
void run_on_card(const RooflineFlags& flags) {
  if (flags.model.model_path.empty() || !flags.plot.empty()) {
    fail(Code::kInvalidArgument,
         "--device {}: bench roofline measures a model's operations there: give --model-path "
         "(--load-format dummy needs only its config.json), and leave --plot out",
         flags.model.device);
  }
  bench::RooflinePoint limits;
  limits.read_gb_per_s = flags.limit_gbps;
  limits.peaks = {{"card", flags.limit_tflops * 1e3, flags.limit_tflops * 1e3, 0}};
  const std::vector<bench::StepProfile> steps = profile(flags, limits);
  if (flags.json) {
    OrderedJson json = {{"device", flags.model.device}};
    json["steps"] = parse_ordered_json(bench::to_json(steps), "steps");
    fmt::print("{}\n", json.dump(2));
  } else {
    fmt::print("{}\n", bench::to_table(steps));
  }
}

void print(const RooflineFlags& flags, const bench::Roofline& roofline,
           const std::vector<bench::StepProfile>& steps) {
  if (!flags.json) {
    fmt::print("{}{}\n", bench::to_table(roofline), bench::to_table(steps));
    return;
  }
  OrderedJson json = parse_ordered_json(bench::to_json(roofline), "roofline");
  if (!steps.empty()) json["steps"] = parse_ordered_json(bench::to_json(steps), "steps");
  fmt::print("{}\n", json.dump(2));
}

/// What a title calls it: the folder, the file, or the end of a hub id.
std::string last_name(const std::string& model_path) {
  const std::filesystem::path path(model_path);
  return (path.has_filename() ? path : path.parent_path()).filename();
}

void run(const RooflineFlags& flags) {
  const bool with_model = !flags.model.model_path.empty();
  if (!with_model && (!flags.model.dtype.empty() || flags.model.revision ||
                      flags.model.download_dir || flags.load_format != "auto")) {
    fail(Code::kInvalidArgument,
         "--dtype, --revision, --download-dir and --load-format are about a model: give "
         "--model-path too");
  }
  if (!flags.on_cpu()) return run_on_card(flags);
  if (flags.limit_gbps > 0 || flags.limit_tflops > 0) {
    fail(Code::kInvalidArgument,
         "--limit-gbps and --limit-tflops are about a GPU; those of the CPU are measured");
  }
  const bench::Roofline roofline = bench::measure_roofline(flags.model.threads);
  std::vector<bench::StepProfile> steps;
  if (with_model) steps = profile(flags, roofline.points.back());
  print(flags, roofline, steps);
  if (flags.plot.empty()) return;
  std::ofstream file(flags.plot);
  file << bench::roofline_svg(roofline, steps, last_name(flags.model.model_path));
  if (!file.flush()) fail(Code::kIo, "--plot {}: cannot be written", flags.plot);
}

}  // namespace

void add_bench_roofline(CLI::App& bench) {
  CLI::App* app = bench.add_subcommand(
      "roofline",
      "measure memory bandwidth and peak arithmetic of this machine, by instruction set (about 2 "
      "s), and how near each part of a model comes to them");
  auto flags = std::make_shared<RooflineFlags>();
  add_run_flags(*app, flags->model, "auto");
  add_load_format_flag(*app, flags->load_format);
  app->add_option("--plot", flags->plot, "write the picture to this file, as SVG");
  app->add_option("--limit-gbps", flags->limit_gbps,
                  "With --device cuda: what its memory reads at best, for the shares")
      ->check(CLI::PositiveNumber);
  app->add_option("--limit-tflops", flags->limit_tflops,
                  "With --device cuda: what it multiplies at best in the model's dtype")
      ->check(CLI::PositiveNumber);
  app->add_flag("--json", flags->json, "print JSON");
  app->footer(
      "With --model-path: each operation of a decode step (batch 1 and 16) and of a prefill of 512 "
      "tokens,\nas a share of the limit at its intensity. With --device cuda: batches of 1, 8, 16, "
      "64, "
      "100 and prompts of\n512 and 4096 tokens; an operation's time includes its launch and the "
      "wait for it, some 10 us.\n"
      "Examples:\n"
      "  erne bench roofline --threads 2 --json\n"
      "  erne bench roofline --model-path models/default --plot roofline.svg");
  app->callback([flags] { run(*flags); });
}

}  // namespace erne::cli
