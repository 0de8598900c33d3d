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

struct RooflineFlags {
  RunFlags model;
  std::string plot;
  bool json = false;
};

std::vector<bench::StepProfile> profile(const RooflineFlags& flags,
                                        const bench::Roofline& roofline) {
  std::shared_ptr<const Checkpoint> checkpoint = Checkpoint::open(find_model(flags.model));
  const TextConfig config = checkpoint->config();
  const std::unique_ptr<Device> device = make_run_device(flags.model);
  const LoadOptions load = to_load_options(flags.model, "auto", *checkpoint);
  const auto model = load_within_memory(std::move(checkpoint), *device, load);
  std::vector<bench::StepProfile> steps;
  for (const bench::StepShape& shape : bench::usual_shapes(config)) {
    const int runs = shape.tokens > 1 ? kPrefillRuns : kDecodeRuns;
    steps.push_back(bench::profile_step(*model, *device, shape, roofline.points.back(), runs));
  }
  return steps;
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
  if (!with_model &&
      (!flags.model.dtype.empty() || flags.model.revision || flags.model.download_dir)) {
    fail(Code::kInvalidArgument,
         "--dtype, --revision and --download-dir are about a model: give --model-path too");
  }
  if (flags.model.device != "cpu") {
    fail(Code::kUnsupported, "--device {}: bench roofline measures the CPU; leave --device out",
         flags.model.device);
  }
  const bench::Roofline roofline = bench::measure_roofline(flags.model.threads);
  std::vector<bench::StepProfile> steps;
  if (with_model) steps = profile(flags, roofline);
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
  app->add_option("--plot", flags->plot, "write the picture to this file, as SVG");
  app->add_flag("--json", flags->json, "print JSON");
  app->footer(
      "With --model-path: each operation of a decode step (batch 1 and 16) and of a prefill of 512 "
      "tokens,\nas a share of the limit at its intensity.\n"
      "Examples:\n"
      "  erne bench roofline --threads 2 --json\n"
      "  erne bench roofline --model-path models/default --plot roofline.svg");
  app->callback([flags] { run(*flags); });
}

}  // namespace erne::cli
