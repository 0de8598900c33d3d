// Flags of the reference's launch line that this version does not have: known by name, refused with
// the reason, except for values that ask for what happens anyway.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace erne::cli {

using UnbuiltValues = std::map<std::string, std::vector<std::string>>;

/// Adds them, hidden from --help. `values` must outlive the parse.
void add_unbuilt_flags(CLI::App& app, UnbuiltValues& values);
/// Throws Error{kUnsupported} naming the first one that asks for something. To be called after the
/// parse.
void refuse_unbuilt_flags(const CLI::App& app, const UnbuiltValues& values);

}  // namespace erne::cli
