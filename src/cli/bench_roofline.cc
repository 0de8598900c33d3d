#include "cli/verbs.h"

namespace erne::cli {

void add_bench_roofline(CLI::App&) {}

}  // namespace erne::cli
