// `erne verify --baseline`: a model held against another one, usually itself in float32, on a text.
#pragma once

#include <optional>
#include <string>

#include "cli/model_loading.h"
#include "cli/text_flags.h"
#include "model/window_run.h"

namespace CLI {
class App;
}

namespace erne::cli {

struct BaselineFlags {
  std::string baseline;  ///< empty: not asked for
  std::string dtype = "float32";
  TextFlags text;
  std::optional<double> max_kl;
  std::optional<double> min_top1;
};

/// Adds --baseline, --baseline-dtype, --max-kl, --min-top1 and the flags of a text. `flags` must
/// outlive the parse.
void add_baseline_flags(CLI::App& app, BaselineFlags& flags);

/// Loads both, compares and prints. Returns whether every bound given holds. Throws Error as
/// loading and measure_divergence do, and where the two tokenise the text differently.
bool verify_against_baseline(const RunFlags& model, const BaselineFlags& flags,
                             const WindowRunOptions& options, bool json);

}  // namespace erne::cli
