#include "cli/verbs.h"

namespace erne::cli {

void add_convert(CLI::App&) {}

}  // namespace erne::cli
