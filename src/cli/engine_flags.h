// The flags that name a model, which every verb that reads one shares, and the flags that every
// verb with an engine shares (serve, chat, generate, verify, bench), and their way into
// EngineOptions. Names and defaults follow spec serving.md 1.2.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "cpu/cpu_device.h"
#include "engine/engine.h"
#include "tensor/dtype.h"

namespace CLI {
class App;
}

namespace erne::cli {

struct ModelFlags {
  std::string model_path;
  std::optional<std::string> revision;
  std::optional<std::string> download_dir;
};

/// Adds -m, --model-path, --model, --revision and --download-dir in the group "Model". `flags` must
/// outlive the parse. A flag given twice takes its last value.
void add_model_flags(CLI::App& app, ModelFlags& flags);

/// The model's folder on disk; a hub id may be downloaded. Throws Error{kInvalidArgument} where no
/// model is named, Error{kNotFound} where it is not found.
std::filesystem::path find_model(const ModelFlags& flags);

/// What the weights become when they are loaded.
struct WeightFlags {
  std::string dtype = "auto";  ///< see parse_weight_flags
  std::string quantization = "none";
  std::string mixed;
  std::string act_dtype = "auto";
};

/// Adds --dtype, --quantization, --mixed and --act-dtype in the group "Model".
void add_weight_flags(CLI::App& app, WeightFlags& flags);

struct WeightChoice {
  std::optional<DType> dtype;  ///< nullopt: as the checkpoint
  QuantizationPlan quantization;
  std::optional<Inputs> inputs;  ///< nullopt: as the scheme says
};

/// --dtype auto is nullopt; bfloat16|bf16, float32|fp32|float, float16|half|fp16 (f16 weights
/// compute in bfloat16, which is logged); w8a16, w8a8 and w4a16 are bfloat16 with a quantisation
/// of all linears, the head included. Throws Error{kInvalidArgument} naming the flag.
WeightChoice parse_weight_flags(const WeightFlags& flags);

/// Adds --load-format in the group "Model".
void add_load_format_flag(CLI::App& app, std::string& load_format);
/// Of the word. Throws Error{kInvalidArgument} naming the flag.
LoadFormat parse_load_format(const std::string& word);

struct EngineFlags : ModelFlags, WeightFlags {
  std::string load_format = "auto";
  std::string device = "auto";
  std::string mmap = "auto";
  int threads = 0;
  std::string numa = "auto";
  std::optional<int64_t> context_length;
  std::optional<int64_t> max_total_tokens;
  double mem_fraction_static = 0.88;
  std::string kv_cache_dtype = "auto";
  int page_size = 16;
  int max_running_requests = 256;
  std::optional<int> max_queued_requests;
  std::optional<int64_t> max_queued_tokens;
  int chunked_prefill_size = 2048;
  int max_prefill_tokens = 16384;
  bool enable_mixed_chunk = true;
  bool disable_radix_cache = false;
  std::string schedule_policy = "fcfs";
  double schedule_conservativeness = 1.0;
  std::optional<uint64_t> random_seed;
};

/// Adds --mmap in the group "Model".
void add_mmap_flag(CLI::App& app, std::string& value);
/// The place of a packed folder's weights; nullopt for auto. Throws Error{kInvalidArgument}.
std::optional<WeightPlace> parse_mmap(const std::string& word);

/// Adds --threads and --numa.
void add_thread_flags(CLI::App& app, int& threads, std::string& numa);
/// Throws Error{kInvalidArgument}.
NumaPolicy parse_numa(const std::string& word);

/// Adds --kv-cache-dtype.
void add_kv_cache_flag(CLI::App& app, const char* group, std::string& value);
/// nullopt for auto. Throws Error{kInvalidArgument, kUnsupported} naming the flag.
std::optional<DType> parse_cache_dtype(const std::string& word);

/// Adds the flags in the groups "Model" and "Memory and scheduling". `flags` must outlive the
/// parse. A flag given twice takes its last value.
void add_engine_flags(CLI::App& app, EngineFlags& flags);

/// Throws Error{kInvalidArgument} naming the flag whose value cannot be right; looks at no file.
void check_engine_flags(const EngineFlags& flags);

/// Checks the values and finds the model on disk (a hub id may be downloaded). Throws
/// Error{kInvalidArgument} naming the flag; Error{kNotFound} where the model is not found. Absent
/// seed: a fresh one.
EngineOptions to_engine_options(const EngineFlags& flags);

}  // namespace erne::cli
