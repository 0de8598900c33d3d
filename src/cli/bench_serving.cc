#include "cli/verbs.h"

namespace erne::cli {

void add_bench_serving(CLI::App&) {}

}  // namespace erne::cli
