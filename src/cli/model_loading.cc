#include "cli/model_loading.h"

#include <CLI/CLI.hpp>

#include "base/error.h"
#include "engine/memory.h"
#include "engine/open_device.h"
#include "model/checkpoint.h"
#include "model/text_weights.h"

namespace erne::cli {

void add_run_flags(CLI::App& app, RunFlags& flags, const std::string& dtype_default) {
  add_model_flags(app, flags);
  add_weight_flags(app, flags);
  app.get_option("--dtype")->default_str(dtype_default);
  app.add_option("--device", flags.device, "cpu, cuda or cuda:N (a GPU)")
      ->capture_default_str()
      ->take_last();
  add_mmap_flag(app, flags.mmap);
  add_kv_cache_flag(app, "Model", flags.kv_cache_dtype);
  add_thread_flags(app, flags.threads, flags.numa);
}

LoadOptions to_load_options(RunFlags flags, const std::string& default_dtype,
                            const Checkpoint& checkpoint) {
  const TextConfig& config = checkpoint.config();
  if (flags.dtype.empty()) flags.dtype = checkpoint.packed() != nullptr ? "auto" : default_dtype;
  const WeightChoice choice = parse_weight_flags(flags);
  const DType own = config.dtype == DType::kF32 ? DType::kF32 : DType::kBF16;
  LoadOptions options;
  options.dtype = choice.dtype.value_or(own);
  options.quantization = choice.quantization;
  options.inputs = choice.inputs;
  options.place = parse_mmap(flags.mmap);
  options.cache_dtype = parse_cache_dtype(flags.kv_cache_dtype);
  options.show_progress = true;  // on stderr, and only on a terminal
  return options;
}

std::unique_ptr<Device> make_run_device(const RunFlags& flags) {
  if (flags.threads < 0)
    fail(Code::kInvalidArgument, "--threads must be at least 0, got {}", flags.threads);
  return open_device(flags.device, flags.threads, parse_numa(flags.numa));
}

std::unique_ptr<TextModel> load_within_memory(std::shared_ptr<const Checkpoint> checkpoint,
                                              Device& device, const LoadOptions& options) {
  check_weights_fit(packed_weight_bytes(*checkpoint, device, options),
                    available_memory_bytes(device), options.dtype, pool_sharing(device));
  return TextModel::load(std::move(checkpoint), device, options);
}

}  // namespace erne::cli
