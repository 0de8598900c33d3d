#include "cli/verbs.h"

namespace erne::cli {

void add_bench_one_batch(CLI::App&) {}

}  // namespace erne::cli
