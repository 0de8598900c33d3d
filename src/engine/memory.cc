#include "engine/memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/log.h"
#include "base/progress.h"

namespace erne {
namespace {

// Beside the weights: tokenizer, code, threads, and a step of a few tokens.
constexpr uint64_t kLeastWorkspace = uint64_t{64} << 20;
constexpr uint64_t kGenerousPool = uint64_t{8} << 30;
// Block ids are int32 and so are positions in a block table; the hash runner and kernels index with
// 64 bits.
constexpr uint64_t kMaxBlocks = uint64_t{1} << 30;

std::optional<uint64_t> read_number(const char* path) {
  std::ifstream file(path);
  uint64_t value = 0;
  if (file >> value) return value;
  return std::nullopt;  // absent, or "max"
}

std::optional<uint64_t> cgroup_free(const char* limit_path, const char* usage_path) {
  const auto limit = read_number(limit_path);
  const auto usage = read_number(usage_path);
  if (!limit || !usage) return std::nullopt;
  return *limit > *usage ? *limit - *usage : 0;
}

uint64_t mem_available() {
  std::ifstream file("/proc/meminfo");
  std::string key;
  uint64_t kib = 0;
  std::string unit;
  while (file >> key >> kib >> unit) {
    if (key == "MemAvailable:") return kib * 1024;
  }
  return std::numeric_limits<uint64_t>::max();
}

}  // namespace

uint64_t available_memory_bytes() {
  uint64_t bytes = mem_available();
  if (const auto v2 = cgroup_free("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"))
    bytes = std::min(bytes, *v2);
  if (const auto v1 = cgroup_free("/sys/fs/cgroup/memory/memory.limit_in_bytes",
                                  "/sys/fs/cgroup/memory/memory.usage_in_bytes")) {
    bytes = std::min(bytes, *v1);
  }
  return bytes;
}

namespace {

/// Adds up what text_weights.cc packs.
class WeightSum {
 public:
  WeightSum(const TextConfig& config, const Device& device, DType dtype)
      : config_(config), device_(device), dtype_(dtype) {}

  void linear(int64_t n, int64_t k, LinearKind kind, bool has_bias) {
    bytes_ += device_.linear_bytes(n, k, dtype_, kind);
    if (has_bias) bytes_ += static_cast<uint64_t>(n) * sizeof(float);
  }
  void mlp(int64_t intermediate, bool has_bias) {
    linear(2 * intermediate, config_.hidden_size, LinearKind::kGateUp, has_bias);
    linear(config_.hidden_size, intermediate, LinearKind::kPlain, has_bias);
  }
  void attention() {
    linear(config_.q_size() + 2 * config_.kv_size(), config_.hidden_size, LinearKind::kPlain,
           config_.use_bias);
    linear(config_.hidden_size, config_.q_size(), LinearKind::kPlain, config_.use_bias);
  }
  void moe() {
    bytes_ += static_cast<uint64_t>(config_.num_experts) *
              static_cast<uint64_t>(config_.hidden_size) * sizeof(float);
    for (int64_t e = 0; e < config_.num_experts; ++e) mlp(config_.moe_intermediate_size, false);
    if (config_.num_shared_experts > 0)
      mlp(config_.num_shared_experts * config_.moe_intermediate_size, config_.use_bias);
  }
  uint64_t bytes() const { return bytes_; }

 private:
  const TextConfig& config_;
  const Device& device_;
  DType dtype_;
  uint64_t bytes_ = 0;
};

}  // namespace

uint64_t packed_weight_bytes(const TextConfig& config, const Device& device, DType dtype) {
  WeightSum sum(config, device, dtype);
  sum.linear(config.vocab_size, config.hidden_size, LinearKind::kPlain, false);
  for (int i = 0; i < config.num_layers; ++i) {
    sum.attention();
    if (config.is_moe_layer(i)) {
      sum.moe();
    } else {
      sum.mlp(config.intermediate_size, config.use_bias);
    }
  }
  return sum.bytes();
}

void check_weights_fit(uint64_t weight_bytes, uint64_t free_bytes, DType dtype) {
  if (free_bytes >= kLeastWorkspace && weight_bytes <= free_bytes - kLeastWorkspace) return;
  fail(Code::kOutOfMemory,
       "the weights need {} in {} and at least {} of workspace, but {} are free; {}",
       human_bytes(weight_bytes), dtype_name(dtype), human_bytes(kLeastWorkspace),
       human_bytes(free_bytes),
       dtype == DType::kF32 ? "use --dtype bfloat16 (half the size), a smaller model, or a machine "
                              "with more memory"
                            : "use a smaller model or a machine with more memory");
}

int64_t plan_pool_tokens(const EngineOptions& options, uint64_t block_bytes, uint64_t free_bytes,
                         uint64_t workspace_bytes) {
  const auto page = static_cast<uint64_t>(options.page_size);
  const auto context = static_cast<uint64_t>(options.context_length.value());
  uint64_t blocks = 0;
  if (options.max_total_tokens) {
    blocks = std::min(static_cast<uint64_t>(*options.max_total_tokens) / page, kMaxBlocks);
    if (blocks == 0) {
      fail(Code::kInvalidArgument,
           "max_total_tokens must be at least one page of {} tokens, got {}", page,
           *options.max_total_tokens);
    }
    if (blocks * block_bytes > free_bytes) {
      fail(Code::kOutOfMemory,
           "a KV pool of {} tokens needs {}, but {} are free; lower --max-total-tokens",
           blocks * page, human_bytes(blocks * block_bytes), human_bytes(free_bytes));
    }
  } else {
    const auto budget =
        static_cast<uint64_t>(static_cast<double>(free_bytes) * options.mem_fraction_static);
    const uint64_t left = budget > workspace_bytes ? budget - workspace_bytes : 0;
    const uint64_t polite = std::max(free_bytes / 3, kGenerousPool);
    const uint64_t useful =
        static_cast<uint64_t>(options.max_running_requests) * ((context + page - 1) / page);
    blocks = std::min({std::min(left, polite) / block_bytes, useful, kMaxBlocks});
    if (blocks == 0) {
      fail(Code::kOutOfMemory,
           "no room for the KV pool: one page of {} tokens needs {}, the workspace of a step {}, "
           "and {} of {} free bytes may be "
           "used; lower --chunked-prefill-size or --max-running-requests, raise "
           "--mem-fraction-static ({}), or use a smaller model",
           page, human_bytes(block_bytes), human_bytes(workspace_bytes), human_bytes(budget),
           human_bytes(free_bytes), options.mem_fraction_static);
    }
  }
  if (blocks * page < context) {
    log::warn("the KV pool holds {} tokens, less than one context of {}: longer requests end early",
              blocks * page, context);
  }
  return static_cast<int64_t>(blocks * page);
}

}  // namespace erne
