#include "engine/loaded_model.h"

#include <malloc.h>

#include <algorithm>
#include <filesystem>
#include <future>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/thread_pool.h"
#include "engine/memory.h"
#include "engine/open_device.h"
#include "engine/validate.h"
#include "model/checkpoint.h"
#include "model/text_weights.h"

namespace erne {
namespace {

constexpr int64_t kNullPoolTokens = int64_t{1} << 20;
constexpr int kMaxPageSize = 4096;

template <typename T>
void need_positive(const char* name, T value) {
  if (value < 1) fail(Code::kInvalidArgument, "{} must be at least 1, got {}", name, value);
}

void check(const EngineOptions& o) {
  need_positive("page_size", o.page_size);
  if (o.page_size > kMaxPageSize)
    fail(Code::kInvalidArgument, "page_size must be at most {}, got {}", kMaxPageSize, o.page_size);
  need_positive("max_running_requests", o.max_running_requests);
  need_positive("max_prefill_tokens", o.max_prefill_tokens);
  if (o.max_total_tokens) need_positive("max_total_tokens", *o.max_total_tokens);
  if (o.chunked_prefill_size != -1)
    need_positive("chunked_prefill_size (or -1 for off)", o.chunked_prefill_size);
  if (!(o.mem_fraction_static > 0 && o.mem_fraction_static <= 1)) {
    fail(Code::kInvalidArgument, "mem_fraction_static must be in (0, 1], got {}",
         o.mem_fraction_static);
  }
  if (!(o.schedule_conservativeness > 0)) {
    fail(Code::kInvalidArgument, "schedule_conservativeness must be above 0, got {}",
         o.schedule_conservativeness);
  }
}

void resolve_context(EngineOptions& options, const TextConfig& config) {
  const int64_t limit = config.max_position_embeddings;
  if (!options.context_length) options.context_length = limit;
  if (*options.context_length < 2 || *options.context_length > limit) {
    fail(Code::kInvalidArgument,
         "context_length must be 2 to {} (max_position_embeddings of the config), got {}", limit,
         *options.context_length);
  }
}

// f16 checkpoints compute in bf16, as EngineOptions says.
DType compute_dtype(const EngineOptions& options, const TextConfig& config) {
  const DType wanted = options.dtype.value_or(config.dtype);
  if (wanted == DType::kF32) return DType::kF32;
  if (wanted == DType::kBF16 || wanted == DType::kF16) return DType::kBF16;
  fail(Code::kUnsupported, "dtype {} cannot be computed in: use float32 or bfloat16",
       dtype_name(wanted));
}

// The step that the arena is sized for: a full chunk and a full batch of decode tokens.
int64_t usual_step_tokens(const EngineOptions& o) {
  const int64_t chunk = o.chunked_prefill_size > 0
                            ? std::min(o.chunked_prefill_size, o.max_prefill_tokens)
                            : std::min<int64_t>(o.max_prefill_tokens, *o.context_length);
  return std::max<int64_t>(chunk, o.page_size) + o.max_running_requests;
}

void load_on_device(EngineOptions& options, std::shared_ptr<const Checkpoint> checkpoint,
                    LoadedModel& m) {
  m.device = open_device(options.device, options.num_threads, options.numa);
  if (options.num_threads == 0) options.num_threads = m.device->info().num_threads;
  if (options.num_threads == 0) options.num_threads = available_cores();
  options.dtype = compute_dtype(options, m.config);
  LoadOptions load{*options.dtype, options.show_progress, options.quantization,
                   options.inputs, options.cache_dtype,   options.weight_place};
  options.cache_dtype = load.cache_dtype = resolve_cache_dtype(*checkpoint, load);
  check_weights_fit(packed_weight_bytes(*checkpoint, *m.device, load),
                    available_memory_bytes(*m.device), *options.dtype, pool_sharing(*m.device));
  m.model = TextModel::load(std::move(checkpoint), *m.device, load);
  m.weight_bytes = m.model->weight_bytes();

  const int64_t step_tokens = usual_step_tokens(options);
  const int64_t step_rows = options.max_running_requests + kMaxPromptRows;
  const size_t workspace = m.model->arena_bytes(std::max(step_tokens, step_rows), step_rows);
  const KvCacheSpec spec = m.model->kv_spec(options.page_size);
  const size_t block_bytes = m.device->kv_block_bytes(spec);
  // Mapped weights are page cache, which counts as free; taken for anything else, it would be read
  // again and again.
  const uint64_t available = available_memory_bytes(*m.device);
  const uint64_t free_bytes = available - std::min(available, m.model->mapped_bytes());
  options.max_total_tokens =
      plan_pool_tokens(options, block_bytes, free_bytes, workspace, pool_sharing(*m.device));
  const auto num_blocks = static_cast<int32_t>(*options.max_total_tokens / options.page_size);
  m.kv_bytes = block_bytes * static_cast<uint64_t>(num_blocks);
  m.runner = std::make_unique<ModelRunner>(
      *m.model, *m.device, m.device->make_kv_cache(spec, num_blocks), step_tokens, step_rows);
  log::info("device {}: {}", m.device->info().name, m.device->info().detail);
  m.workspace_bytes = workspace;
  const uint64_t taken = m.kv_bytes + workspace;
  m.free_bytes = free_bytes > taken ? free_bytes - taken : 0;
}

// What parsing took (tens of megabytes) goes back to the system before the weights need it.
std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& folder) {
  auto tokenizer = Tokenizer::load(folder);
  ::malloc_trim(0);
  return tokenizer;
}

bool has_tokenizer(const std::filesystem::path& folder) {
  std::error_code ignored;
  return std::filesystem::exists(folder / "tokenizer.json", ignored) ||
         std::filesystem::exists(folder / "tokenizer.model", ignored);
}

void load_null(EngineOptions& options, LoadedModel& m) {
  const int64_t useful = *options.context_length * options.max_running_requests;
  const int64_t tokens = options.max_total_tokens.value_or(
      std::min(useful, std::max(kNullPoolTokens, *options.context_length)));
  const int64_t blocks = std::max<int64_t>(tokens / options.page_size, 1);
  options.max_total_tokens = blocks * options.page_size;
  m.runner = std::make_unique<HashRunner>(m.config.vocab_size, static_cast<int32_t>(blocks),
                                          options.page_size, HashRunner::Reads::kLastPosition,
                                          HashRunner::Logits::kOneHot);
}

}  // namespace

std::vector<int32_t> find_eos_ids(const GenerationConfig& generation, const Tokenizer* tokenizer,
                                  int64_t vocab_size) {
  std::vector<int32_t> ids = generation.eos_ids;
  if (tokenizer != nullptr) {
    if (tokenizer->eos_id()) ids.push_back(*tokenizer->eos_id());
    for (const char* name : {"</s>", "<|end_of_sentence|>", "<|im_end|>"}) {
      const std::optional<int32_t> id = tokenizer->find(name);
      if (id && tokenizer->is_special(*id)) ids.push_back(*id);
    }
  }
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  std::erase_if(ids, [&](int32_t id) { return id < 0 || id >= vocab_size; });
  return ids;
}

LoadedModel load_model(EngineOptions& options) {
  check(options);
  const SystemClock clock;
  const double begin_s = clock.now_s();
  LoadedModel m;
  const bool dummy = options.load_format == LoadFormat::kDummy;
  if (dummy && !has_tokenizer(options.model_path)) options.skip_tokenizer = true;
  if (names_device(options.device)) {
    std::shared_ptr<const Checkpoint> checkpoint =
        dummy ? Checkpoint::dummy(options.model_path) : Checkpoint::open(options.model_path);
    m.config = checkpoint->config();
    m.generation = checkpoint->generation_config();
    resolve_context(options, m.config);
    std::future<std::unique_ptr<Tokenizer>> tokenizer;  // beside the weights
    if (!options.skip_tokenizer)
      tokenizer = std::async(std::launch::async, load_tokenizer, options.model_path);
    load_on_device(options, std::move(checkpoint), m);
    if (tokenizer.valid()) m.tokenizer = tokenizer.get();
  } else if (options.device == "null") {
    m.config = TextConfig::load(options.model_path);
    m.generation = GenerationConfig::load(options.model_path);
    resolve_context(options, m.config);
    if (!options.skip_tokenizer) m.tokenizer = Tokenizer::load(options.model_path);
    load_null(options, m);
  } else {
    fail(Code::kInvalidArgument, "device must be cpu, cuda, cuda:N or null, got '{}'",
         options.device);
  }
  drop_unusable_defaults(m.generation);
  m.eos_ids = find_eos_ids(m.generation, m.tokenizer.get(), m.config.vocab_size);
  m.load_s = clock.now_s() - begin_s;
  return m;
}

}  // namespace erne
