// `erne bench`: the parent of the benches.
#include <CLI/CLI.hpp>

#include "cli/verbs.h"

namespace erne::cli {

void add_bench(CLI::App& app) {
  CLI::App* bench = app.add_subcommand(
      "bench", "measure serving, offline throughput, one batch, or the machine's limits");
  bench->require_subcommand(1);
  add_bench_serving(*bench);
  add_bench_offline(*bench);
  add_bench_one_batch(*bench);
  add_bench_roofline(*bench);
}

}  // namespace erne::cli
