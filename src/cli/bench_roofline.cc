// `erne bench roofline`: the machine's own limits, for every other figure to be compared with.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "bench/roofline.h"
#include "cli/verbs.h"

namespace erne::cli {
namespace {

struct Flags {
  int threads = 0;
  bool json = false;
};

}  // namespace

void add_bench_roofline(CLI::App& bench) {
  CLI::App* app = bench.add_subcommand("roofline",
                                       "measure memory bandwidth and peak arithmetic of this "
                                       "machine, by instruction set (about 2 s)");
  auto flags = std::make_shared<Flags>();
  app->add_option("--threads", flags->threads,
                  "threads; 0 means every core that the process may use")
      ->check(CLI::Range(0, 4096));
  app->add_flag("--json", flags->json, "print JSON");
  app->footer("Example:\n  erne bench roofline --threads 2 --json");
  app->callback([flags] {
    const bench::Roofline roofline = bench::measure_roofline(flags->threads);
    fmt::print("{}\n", flags->json ? bench::to_json(roofline) : bench::to_table(roofline));
  });
}

}  // namespace erne::cli
