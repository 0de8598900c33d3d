#include "cli/verbs.h"

namespace erne::cli {

void add_inspect(CLI::App&) {}

}  // namespace erne::cli
