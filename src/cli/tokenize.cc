#include "cli/verbs.h"

namespace erne::cli {

void add_tokenize(CLI::App&) {}

}  // namespace erne::cli
