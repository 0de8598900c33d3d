#include "cli/verbs.h"

namespace erne::cli {

void add_generate(CLI::App&) {}

}  // namespace erne::cli
