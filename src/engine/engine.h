// The engine: continuous batching over one model. Server, chat and benches are its users
// (docs/engine.md).
//
// Threads: submit(), abort() and stats() may be called from any thread; one engine thread owns all
// scheduling state.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "engine/request.h"
#include "model/quantization.h"
#include "tensor/code_rows.h"
#include "tensor/dtype.h"

namespace erne {

class Tokenizer;
enum class WeightPlace : uint8_t;
enum class NumaPolicy : uint8_t;
struct TextConfig;
struct GenerationConfig;

/// Where weights come from.
enum class LoadFormat : uint8_t { kFiles, kDummy };

enum class SchedulePolicy { kFcfs, kLongestPrefix, kLongestOutput, kRandom };

struct EngineOptions {
  std::filesystem::path model_path;  ///< a folder
  /// kDummy: the folder's config.json with made-up weights; a tokenizer may be absent.
  LoadFormat load_format = LoadFormat::kFiles;
  std::string device = "cpu";               ///< "cpu", "cuda", "cuda:N", "null"
  std::optional<DType> dtype;               ///< absent: from the checkpoint (f16 computes in bf16)
  QuantizationPlan quantization;            ///< rounds weights that the checkpoint holds as numbers
  std::optional<Inputs> inputs;             ///< of quantised linears; absent: as LoadOptions says
  std::optional<WeightPlace> weight_place;  ///< of a packed folder's linears, as in LoadOptions
  /// Of the KV cache: kF32 (with float32 only), kBF16, kI8 or kF8E4M3; absent: dtype.
  std::optional<DType> cache_dtype;
  int num_threads = 0;  ///< 0: all cores
  NumaPolicy numa{};
  std::optional<int64_t> context_length;
  std::optional<int64_t> max_total_tokens;  ///< KV pool; absent: from memory
  double mem_fraction_static = 0.88;
  bool skip_tokenizer = false;       ///< ids only: no text, no stop strings
  bool allow_auto_truncate = false;  ///< cut over-long prompts and answers instead of refusing them
  int page_size = 16;
  int max_running_requests = 256;
  std::optional<int> max_queued_requests;
  std::optional<int64_t> max_queued_tokens;
  int chunked_prefill_size = 2048;  ///< -1: off
  int max_prefill_tokens = 16384;
  bool enable_mixed_chunk = true;
  bool disable_radix_cache = false;
  SchedulePolicy schedule_policy = SchedulePolicy::kFcfs;
  double schedule_conservativeness = 1.0;
  uint64_t random_seed = 0;
  bool show_progress = false;
};

/// A snapshot; counters never go back.
struct EngineStats {
  int running = 0, queued = 0;
  int max_running = 0;
  int retracted = 0;            ///< of the queued: those that ran, lost their pages, and will go on
  int64_t queued_tokens = 0;    ///< of the prompts in the queue, once for each of their choices
  int64_t decode_seq_lens = 0;  ///< lengths of the sequences that decode, added up
  double new_token_ratio = 0;   ///< share of its remaining output that a request is expected to use
  int64_t pool_tokens = 0, used_tokens = 0, cached_tokens = 0,
          free_tokens = 0;    ///< used: held by live requests
  int64_t locked_nodes = 0;   ///< of the prefix cache
  double gen_throughput = 0;  ///< tokens/s, recent
  uint64_t prompt_tokens_total = 0, cached_tokens_total = 0, generation_tokens_total = 0;
  /// What was done instead of what came in: tokens of prefill that were computed, those that a
  /// retraction had lost among them, and that the cache spared, by every choice.
  uint64_t prefill_tokens_total = 0, prefill_cached_tokens_total = 0;
  uint64_t requests_total = 0, finished_total = 0, aborted_total = 0, evicted_tokens_total = 0;
  uint64_t retractions_total = 0, retracted_prompt_tokens_total = 0,
           retracted_output_tokens_total = 0;
  uint64_t steps_total = 0;
  double last_step_age_s =
      0;  ///< since the last completed layer, 0 when nothing runs or waits; for /health
  uint64_t weight_bytes = 0, kv_bytes = 0;
  uint64_t workspace_bytes = 0;  ///< of the usual step
  uint64_t free_bytes = 0;       ///< left at start-up by weights, pool and workspace
  double load_s = 0;
  /// Why no request can be served any more: the device is lost and the process must end. Empty: all
  /// is well.
  std::string fault;
};

class Engine {
 public:
  /// Loads model and tokenizer and starts the engine thread. Throws Error as loaders do;
  /// kOutOfMemory says which flag helps.
  explicit Engine(const EngineOptions& options);
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  /// Aborts what still runs and joins.
  ~Engine();

  /// Validates and queues; the sink lives until its last output. Returns the request's id. Throws
  /// Error{kInvalidArgument} (a message with "maximum context length" and code context for
  /// over-long prompts), Error{kConflict} for a live id, Error{kUnavailable} when the queue is
  /// full.
  std::string submit(Request request, std::shared_ptr<OutputSink> sink);
  /// Ends every live request whose id starts with `prefix` (all if empty) with
  /// FinishReason::kAbort; unknown ids are fine.
  void abort(const std::string& prefix);
  /// Empties the prefix cache if nothing runs or waits; else returns false.
  bool flush_cache();
  EngineStats stats() const;

  const Tokenizer& tokenizer() const;
  const TextConfig& config() const;
  const GenerationConfig& generation_config() const;
  const EngineOptions& options() const;  ///< resolved
  int64_t context_length() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// A sink to read from with a blocking call: for programs, chat and tests.
class TokenStream final : public OutputSink {
 public:
  void on_output(Output output) override;
  /// Waits for the next output; nullopt once every choice has finished.
  std::optional<Output> next();
  explicit TokenStream(int num_choices = 1) : open_choices_(num_choices) {}

 private:
  std::mutex mutex_;
  std::condition_variable ready_;
  std::vector<Output> outputs_;
  size_t read_ = 0;
  int open_choices_;
};

}  // namespace erne
