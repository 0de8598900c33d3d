// Flags of the reference that this version does not have: known by name, refused with a reason,
// never swallowed.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>

namespace CLI {
class App;
}

namespace erne::cli {

struct RefusedFlag {
  std::string_view name;  ///< "--profile"
  std::string_view hint;  ///< what to do instead, or empty
};

/// Each throws Error{kUnsupported} as soon as the command line names it, with or without a value.
/// Hidden from the help.
void add_refused_flags(CLI::App& app, std::initializer_list<RefusedFlag> flags);

}  // namespace erne::cli
