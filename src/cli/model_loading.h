// The verbs that run a model without an engine (verify, eval): their flags for precision and
// threads, and the one place where those become LoadOptions.
#pragma once

#include <memory>
#include <string>

#include "cli/engine_flags.h"
#include "model/text_model.h"

namespace erne {
class Checkpoint;
}

namespace erne::cli {

/// An empty dtype is what the verb takes by itself.
struct RunFlags : ModelFlags, WeightFlags {
  RunFlags() { dtype.clear(); }
  std::string device = "cpu";
  std::string mmap = "auto";
  std::string kv_cache_dtype = "auto";
  int threads = 0;
  std::string numa = "auto";
};

/// add_model_flags, add_weight_flags, --device, --mmap, --kv-cache-dtype, --threads and --numa.
/// `dtype_default` ends the help of --dtype. `flags` must outlive the parse.
void add_run_flags(CLI::App& app, RunFlags& flags, const std::string& dtype_default);

/// dtype "auto" is the checkpoint's own type (float16 computes in bfloat16), an empty one
/// `default_dtype` (of a packed folder: auto).
LoadOptions to_load_options(RunFlags flags, const std::string& default_dtype,
                            const Checkpoint& checkpoint);

/// flags.device with flags.threads threads. Throws Error{kInvalidArgument} for fewer than 0, and as
/// open_device().
std::unique_ptr<Device> make_run_device(const RunFlags& flags);

/// Checks that the packed weights fit into free memory (Error{kOutOfMemory}), then packs them.
std::unique_ptr<TextModel> load_within_memory(std::shared_ptr<const Checkpoint> checkpoint,
                                              Device& device, const LoadOptions& options);

}  // namespace erne::cli
