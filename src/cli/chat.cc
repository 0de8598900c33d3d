#include "cli/verbs.h"

namespace erne::cli {

void add_chat(CLI::App&) {}

}  // namespace erne::cli
