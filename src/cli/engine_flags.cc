#include "cli/engine_flags.h"

#include <CLI/CLI.hpp>
#include <filesystem>
#include <random>

#include "base/error.h"
#include "base/log.h"
#include "device/device.h"
#include "engine/open_device.h"
#include "hub/hub.h"

namespace erne::cli {
namespace {

constexpr const char* kModelGroup = "Model";
constexpr const char* kMemoryGroup = "Memory and scheduling";

SchedulePolicy parse_policy(const std::string& word) {
  if (word == "fcfs") return SchedulePolicy::kFcfs;
  if (word == "lpm") return SchedulePolicy::kLongestPrefix;
  if (word == "lof") return SchedulePolicy::kLongestOutput;
  if (word == "random") return SchedulePolicy::kRandom;
  if (word == "dfs-weight" || word == "priority") {
    fail(Code::kUnsupported,
         "--schedule-policy {}: not available in this version; use fcfs, lpm, lof or random", word);
  }
  fail(Code::kInvalidArgument, "--schedule-policy must be fcfs, lpm, lof or random, got '{}'",
       word);
}

std::string parse_device(const std::string& word) {
  if (word == "auto" || word == "cpu") return "cpu";
  if (word == "null") return "null";
  if (names_device(word)) return word;
  fail(Code::kInvalidArgument, "--device must be auto, cpu, cuda, cuda:N or null, got '{}'", word);
}

template <typename T>
void need_at_least(const char* flag, T value, T least) {
  if (value < least)
    fail(Code::kInvalidArgument, "{} must be at least {}, got {}", flag, least, value);
}

template <typename T>
void need_at_least(const char* flag, const std::optional<T>& value, T least) {
  if (value) need_at_least(flag, *value, least);
}

void need_model(const ModelFlags& flags) {
  if (!flags.model_path.empty()) return;
  fail(Code::kInvalidArgument,
       "--model-path is required: a folder, a .gguf file or a hub id such as "
       "baidu/ERNIE-4.5-0.3B-PT");
}

void check(const EngineFlags& flags) {
  need_model(flags);
  need_at_least("--threads", flags.threads, 0);
  need_at_least("--context-length", flags.context_length, int64_t{1});
  need_at_least("--max-total-tokens", flags.max_total_tokens, int64_t{1});
  need_at_least("--page-size", flags.page_size, 1);
  need_at_least("--max-running-requests", flags.max_running_requests, 1);
  need_at_least("--max-queued-requests", flags.max_queued_requests, 1);
  need_at_least("--max-queued-tokens", flags.max_queued_tokens, int64_t{1});
  need_at_least("--max-prefill-tokens", flags.max_prefill_tokens, 1);
  if (flags.chunked_prefill_size != -1 && flags.chunked_prefill_size < 1) {
    fail(Code::kInvalidArgument, "--chunked-prefill-size must be -1 (off) or at least 1, got {}",
         flags.chunked_prefill_size);
  }
  if (!(flags.mem_fraction_static > 0 && flags.mem_fraction_static <= 1)) {
    fail(Code::kInvalidArgument, "--mem-fraction-static must be in (0, 1], got {}",
         flags.mem_fraction_static);
  }
  if (!(flags.schedule_conservativeness > 0)) {
    fail(Code::kInvalidArgument, "--schedule-conservativeness must be above 0, got {}",
         flags.schedule_conservativeness);
  }
}

uint64_t fresh_seed() {
  std::random_device device;
  return uint64_t{device()} << 32 | device();
}

template <typename T>
CLI::Option* add(CLI::App& app, const char* group, const char* name, T& value, const char* help) {
  return app.add_option(name, value, help)->group(group)->take_last();
}

void add_compute_flags(CLI::App& app, EngineFlags& f) {
  const char* g = kModelGroup;
  add(app, g, "--device", f.device,
      "auto (the CPU), cpu, cuda, cuda:N (a GPU), or null (computes nothing: measures the rest)")
      ->capture_default_str();
  add(app, g, "--context-length", f.context_length,
      "Longest prompt plus answer in tokens (from the config)");
  add(app, g, "--random-seed", f.random_seed,
      "Seed of requests that bring none (fresh at each start)");
  add_thread_flags(app, f.threads, f.numa);
}

void add_memory_flags(CLI::App& app, EngineFlags& f) {
  const char* g = kMemoryGroup;
  add(app, g, "--mem-fraction-static", f.mem_fraction_static,
      "Share of memory for weights and KV cache")
      ->capture_default_str();
  add(app, g, "--max-total-tokens", f.max_total_tokens,
      "Size of the KV pool in tokens (from memory)");
  add_kv_cache_flag(app, g, f.kv_cache_dtype);
  add(app, g, "--page-size", f.page_size, "Tokens per KV page")->capture_default_str();
  add(app, g, "--max-running-requests", f.max_running_requests, "Requests in a batch")
      ->capture_default_str();
  add(app, g, "--max-queued-requests", f.max_queued_requests,
      "Waiting requests before 503 (no limit)");
  add(app, g, "--max-queued-tokens", f.max_queued_tokens,
      "Waiting prompt tokens before 503 (no limit)");
  add(app, g, "--chunked-prefill-size", f.chunked_prefill_size,
      "Prompt tokens per step; -1: whole prompts")
      ->capture_default_str();
  add(app, g, "--max-prefill-tokens", f.max_prefill_tokens, "Prompt tokens admitted per step")
      ->capture_default_str();
  app.add_flag("--enable-mixed-chunk,!--disable-mixed-chunk", f.enable_mixed_chunk,
               "Decode tokens ride along with prompt chunks (on)")
      ->group(g);
  app.add_flag("--disable-radix-cache", f.disable_radix_cache, "No reuse of shared prefixes")
      ->group(g);
  add(app, g, "--schedule-policy", f.schedule_policy, "fcfs, lpm, lof or random")
      ->capture_default_str();
  add(app, g, "--schedule-conservativeness", f.schedule_conservativeness,
      "Above 1: admits later, retracts less")
      ->capture_default_str();
}

}  // namespace

void add_model_flags(CLI::App& app, ModelFlags& f) {
  const char* g = kModelGroup;
  add(app, g, "-m,--model-path,--model", f.model_path, "Hugging Face folder, .gguf file or hub id");
  add(app, g, "--revision", f.revision, "Branch, tag or commit of a hub id (main)");
  add(app, g, "--download-dir", f.download_dir, "Where hub ids are kept (the Hugging Face cache)");
}

std::filesystem::path find_model(const ModelFlags& flags) {
  need_model(flags);
  HubOptions options;
  options.revision = flags.revision;
  if (flags.download_dir) options.download_dir = *flags.download_dir;
  return resolve_model(flags.model_path, options);
}

void check_engine_flags(const EngineFlags& flags) { check(flags); }

void add_weight_flags(CLI::App& app, WeightFlags& f) {
  const char* g = kModelGroup;
  add(app, g, "--dtype", f.dtype,
      "auto (as the checkpoint), bfloat16|bf16, float32|fp32|float, float16|half|fp16 (computes in "
      "bfloat16); w8a16, w8a8, w4a16: short for a quantisation of all linears")
      ->capture_default_str();
  add(app, g, "--quantization", f.quantization,
      "Rounds the weights while loading: wint8, wint4, wint4:g64, wint4:g32:min, fp8_block, "
      "fp8_channel, fp8_tensor (the head stays, see --mixed; fp8 weights meet bfloat16 "
      "inputs); with int8 inputs w8a8, or w4a8 (rotated; int8 KV cache); 2 bits wint2.5, wint2")
      ->capture_default_str();
  add(app, g, "--mixed", f.mixed,
      "Exceptions, e.g. lm_head=wint8,experts@0-6=wint4:g128,attention=none");
  add(app, g, "--act-dtype", f.act_dtype,
      "Inputs of quantised linears: auto (as computed), bf16, int8 (rounded, faster)")
      ->capture_default_str();
}

void add_load_format_flag(CLI::App& app, std::string& load_format) {
  add(app, kModelGroup, "--load-format", load_format,
      "auto (the model's files, also called safetensors and gguf), or dummy: made-up weights in "
      "the "
      "shapes of the folder's config.json, which may stand there alone, for measuring")
      ->capture_default_str();
}

LoadFormat parse_load_format(const std::string& word) {
  if (word == "dummy") return LoadFormat::kDummy;
  if (word == "auto" || word == "safetensors" || word == "gguf") return LoadFormat::kFiles;
  fail(Code::kInvalidArgument, "--load-format must be auto, safetensors, gguf or dummy, got '{}'",
       word);
}

WeightChoice parse_weight_flags(const WeightFlags& flags) {
  std::string quantization = flags.quantization;
  std::string mixed = flags.mixed;
  WeightChoice choice;
  const std::string& word = flags.dtype;
  if (word == "bfloat16" || word == "bf16") {
    choice.dtype = DType::kBF16;
  } else if (word == "float32" || word == "fp32" || word == "float") {
    choice.dtype = DType::kF32;
  } else if (word == "float16" || word == "half" || word == "fp16") {
    log::warn("--dtype {}: float16 weights are read exactly, but computed in bfloat16", word);
    choice.dtype = DType::kBF16;
  } else if (word == "w8a16" || word == "w8a8" || word == "w4a16") {
    if (quantization != "none") {
      fail(Code::kInvalidArgument, "--dtype {} and --quantization {}: give one of them", word,
           quantization);
    }
    choice.dtype = DType::kBF16;
    quantization = word == "w4a16" ? "wint4:g32:min" : "wint8";
    if (mixed.empty()) mixed = "lm_head=wint8";
    if (word == "w8a8") choice.inputs = Inputs::kInt8;
  } else if (word != "auto") {
    fail(Code::kInvalidArgument,
         "--dtype must be auto, bfloat16 (bf16), float32 (fp32, float), float16 (half, fp16), "
         "w8a16, w8a8 or w4a16, got '{}'",
         word);
  }
  if (flags.act_dtype == "int8") {
    choice.inputs = Inputs::kInt8;
  } else if (flags.act_dtype == "bf16") {
    choice.inputs = Inputs::kFull;
  } else if (flags.act_dtype != "auto") {
    fail(Code::kInvalidArgument, "--act-dtype must be auto, bf16 or int8, got '{}'",
         flags.act_dtype);
  }
  choice.quantization = QuantizationPlan::parse(quantization, mixed);
  const auto& base = choice.quantization.base();
  if (flags.act_dtype == "bf16" && base && base->has_int8_inputs()) {
    fail(Code::kInvalidArgument, "--act-dtype bf16: {} means inputs of 8 bits; use wint8 or wint4",
         base->name());
  }
  return choice;
}

void add_thread_flags(CLI::App& app, int& threads, std::string& numa) {
  add(app, kModelGroup, "--threads", threads, "Compute threads; 0 takes every core once")
      ->capture_default_str();
  add(app, kModelGroup, "--numa", numa,
      "bind (threads to cores, weights to the memory beside the threads that read them), "
      "interleave "
      "(memory in turns), off, or auto: bind where there are several memory nodes "
      "and threads for every core")
      ->capture_default_str();
}

NumaPolicy parse_numa(const std::string& word) {
  if (word == "auto") return NumaPolicy::kAuto;
  if (word == "off") return NumaPolicy::kOff;
  if (word == "bind") return NumaPolicy::kBind;
  if (word == "interleave") return NumaPolicy::kInterleave;
  fail(Code::kInvalidArgument, "--numa must be auto, off, bind or interleave, got '{}'", word);
}

void add_kv_cache_flag(CLI::App& app, const char* group, std::string& value) {
  add(app, group, "--kv-cache-dtype", value,
      "auto (as computed; int8 with w4a8; what a quantised folder asks for), bfloat16|bf16, "
      "float32, int8, fp8|fp8_e4m3 (a scale for each token and head, or the folder's fixed ones)")
      ->capture_default_str();
}

std::optional<DType> parse_cache_dtype(const std::string& word) {
  if (word == "auto") return std::nullopt;
  if (word == "bfloat16" || word == "bf16") return DType::kBF16;
  if (word == "float32") return DType::kF32;
  if (word == "int8") return DType::kI8;
  if (word == "fp8" || word == "fp8_e4m3") return DType::kF8E4M3;
  if (word == "fp8_e5m2") {
    fail(Code::kUnsupported, "--kv-cache-dtype {}: not available in this version; use fp8_e4m3",
         word);
  }
  fail(Code::kInvalidArgument,
       "--kv-cache-dtype must be auto, bfloat16 (bf16), float32, int8 or fp8_e4m3 (fp8), got '{}'",
       word);
}

void add_mmap_flag(CLI::App& app, std::string& value) {
  add(app, kModelGroup, "--mmap", value,
      "Of a packed folder (erne convert --pack): on reads the weights where they are mapped, off "
      "copies them into huge pages, auto copies where the file system has none")
      ->capture_default_str();
}

std::optional<WeightPlace> parse_mmap(const std::string& word) {
  if (word == "auto") return std::nullopt;
  if (word == "on") return WeightPlace::kMapped;
  if (word == "off") return WeightPlace::kCopied;
  fail(Code::kInvalidArgument, "--mmap must be auto, on or off, got '{}'", word);
}

void add_engine_flags(CLI::App& app, EngineFlags& flags) {
  add_model_flags(app, flags);
  add_load_format_flag(app, flags.load_format);
  add_weight_flags(app, flags);
  add_mmap_flag(app, flags.mmap);
  add_compute_flags(app, flags);
  add_memory_flags(app, flags);
}

EngineOptions to_engine_options(const EngineFlags& flags) {
  check(flags);
  EngineOptions options;
  options.load_format = parse_load_format(flags.load_format);
  options.device = parse_device(flags.device);
  const WeightChoice weights = parse_weight_flags(flags);
  options.dtype = weights.dtype;
  options.quantization = weights.quantization;
  options.inputs = weights.inputs;
  options.weight_place = parse_mmap(flags.mmap);
  options.schedule_policy = parse_policy(flags.schedule_policy);
  options.num_threads = flags.threads;
  options.numa = parse_numa(flags.numa);
  options.context_length = flags.context_length;
  options.max_total_tokens = flags.max_total_tokens;
  options.mem_fraction_static = flags.mem_fraction_static;
  options.page_size = flags.page_size;
  options.cache_dtype = parse_cache_dtype(flags.kv_cache_dtype);
  options.max_running_requests = flags.max_running_requests;
  options.max_queued_requests = flags.max_queued_requests;
  options.max_queued_tokens = flags.max_queued_tokens;
  options.chunked_prefill_size = flags.chunked_prefill_size;
  options.max_prefill_tokens = flags.max_prefill_tokens;
  options.enable_mixed_chunk = flags.enable_mixed_chunk;
  options.disable_radix_cache = flags.disable_radix_cache;
  options.schedule_conservativeness = flags.schedule_conservativeness;
  options.random_seed = flags.random_seed.value_or(fresh_seed());
  options.model_path = find_model(flags);
  options.show_progress = true;
  return options;
}

}  // namespace erne::cli
