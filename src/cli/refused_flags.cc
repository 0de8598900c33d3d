#include "cli/refused_flags.h"

#include <CLI/CLI.hpp>

#include "base/error.h"

namespace erne::cli {

void add_refused_flags(CLI::App& app, std::initializer_list<RefusedFlag> flags) {
  for (const RefusedFlag& flag : flags) {
    const CLI::callback_t refuse = [name = std::string(flag.name),
                                    hint = std::string(flag.hint)](const CLI::results_t&) -> bool {
      fail(Code::kUnsupported, "{} is not available in this version{}{}", name,
           hint.empty() ? "" : "; ", hint);
    };
    app.add_option(std::string(flag.name), refuse, "not available in this version")
        ->expected(0, -1)
        ->trigger_on_parse()
        ->group("");
  }
}

}  // namespace erne::cli
