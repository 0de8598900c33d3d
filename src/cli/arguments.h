// Before CLI11 sees the command line: unambiguous prefixes of long flags, --config files, and help
// for mistyped flags.
#pragma once

#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace erne::cli {

/// Arguments without the program's name, in order. Long flags are completed ("--tp" to
/// "--tp-size"); where the verb knows
/// --config, the file's keys become flags in front of the typed ones, so that these win. Throws
/// Error{kInvalidArgument} for an unknown flag (naming the nearest), an ambiguous prefix or a bad
/// file.
std::vector<std::string> expand_arguments(const CLI::App& app, int argc, const char* const* argv);

/// The candidate with the fewest edits to `word`; empty if none is near.
std::string nearest(const std::string& word, const std::vector<std::string>& candidates);

}  // namespace erne::cli
