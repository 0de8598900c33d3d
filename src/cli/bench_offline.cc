#include "cli/verbs.h"

namespace erne::cli {

void add_bench_offline(CLI::App&) {}

}  // namespace erne::cli
