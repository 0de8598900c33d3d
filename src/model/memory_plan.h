// What a model takes of a card, from its config.json alone: weights and KV cache in every
// precision, the tokens that fit beside the weights, and what a decode step reads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "model/config.h"

namespace erne {

/// config.json of a text model, or the text part of that of a vision-language model.
struct PlannedConfig {
  TextConfig text;
  bool has_vision = false;  ///< there is more that the plan does not count
};
/// `path`: the file, or a folder with it. Throws Error as TextConfig::parse.
PlannedConfig load_planned_config(const std::filesystem::path& path);

/// One line of the plan.
struct MemoryPlan {
  std::string precision;  ///< "bfloat16", "wint4", …: words of --quantization
  std::string cache;      ///< "bfloat16", "fp8", "int8": words of --kv-cache-dtype
  uint64_t weight_bytes = 0;
  uint64_t embedding_bytes = 0;    ///< of these, the table that tokens look up rows of
  uint64_t kv_token_bytes = 0;     ///< scales included
  uint64_t workspace_bytes = 0;    ///< of the usual step
  uint64_t shared_step_bytes = 0;  ///< weights that every decode step reads
  uint64_t expert_step_bytes = 0;  ///< and for each distinct expert of a layer, over all layers
};

/// In every precision that the model can have, the least rounded first.
std::vector<MemoryPlan> plan_memory(const TextConfig& config);

/// Tokens of KV cache that fit beside the weights into `share` of what a card of `card_bytes` has
/// left, less the workspace, as the engine plans it; 0: the model does not fit.
int64_t tokens_that_fit(const MemoryPlan& plan, uint64_t card_bytes, double share);

/// "139GiB", "80GB", "512MiB" or plain bytes. Throws Error{kInvalidArgument}.
uint64_t parse_bytes(std::string_view text);

}  // namespace erne
