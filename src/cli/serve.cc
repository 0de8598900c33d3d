#include "cli/verbs.h"

namespace erne::cli {

void add_serve(CLI::App&) {}

}  // namespace erne::cli
