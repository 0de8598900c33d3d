#include "cli/inspect_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/json.h"
#include "base/progress.h"
#include "engine/engine.h"
#include "model/memory_plan.h"

namespace erne::cli {
namespace {

const double kShare = EngineOptions{}.mem_fraction_static;  // what serve takes unless told
constexpr int64_t kContexts[] = {8192, 32768, 131072};

std::vector<int64_t> contexts(const TextConfig& config) {
  std::vector<int64_t> list;
  for (const int64_t c : kContexts) {
    if (c <= config.max_position_embeddings) list.push_back(c);
  }
  if (list.empty()) list.push_back(config.max_position_embeddings);
  return list;
}

OrderedJson to_json(const PlannedConfig& config, const std::vector<MemoryPlan>& plans,
                    std::optional<uint64_t> card) {
  OrderedJson json;
  json["parameters"] = {{"total", config.text.num_parameters()},
                        {"active_per_token", config.text.num_active_parameters()}};
  json["text_part_only"] = config.has_vision;
  if (card) json["card_bytes"] = *card;
  json["mem_fraction_static"] = kShare;
  json["plans"] = OrderedJson::array();
  for (const MemoryPlan& p : plans) {
    OrderedJson line = {{"quantization", p.precision},
                        {"kv_cache_dtype", p.cache},
                        {"weight_bytes", p.weight_bytes},
                        {"workspace_bytes", p.workspace_bytes},
                        {"kv_bytes_per_token", p.kv_token_bytes},
                        {"decode_step_bytes", p.shared_step_bytes},
                        {"decode_step_bytes_per_expert", p.expert_step_bytes}};
    if (card) {
      const int64_t tokens = tokens_that_fit(p, *card, kShare);
      line["kv_tokens"] = tokens;
      line["concurrency"] = OrderedJson::object();
      for (const int64_t c : contexts(config.text))
        line["concurrency"][std::to_string(c)] = tokens / c;
    }
    json["plans"].push_back(std::move(line));
  }
  return json;
}

std::string giga(uint64_t bytes) {
  return fmt::format("{:.3f}", static_cast<double>(bytes) * 1e-9);
}

void print_text(const PlannedConfig& config, const std::vector<MemoryPlan>& plans,
                std::optional<uint64_t> card) {
  const TextConfig& c = config.text;
  fmt::print(
      "parameters   {:.3f} B in total, {:.3f} B used per token{}\n",
      static_cast<double>(c.num_parameters()) * 1e-9,
      static_cast<double>(c.num_active_parameters()) * 1e-9,
      config.has_vision ? " (text part: vision tower and vision experts are not counted)" : "");
  fmt::print("workspace    {} for a step of 2048 prompt tokens and 256 answers\n",
             human_bytes(plans.front().workspace_bytes));
  if (card)
    fmt::print("card         {}, of which {} of what the weights leave is used\n",
               human_bytes(*card), kShare);
  fmt::print("\n{:<11}{:<10}{:>12}{:>10}{:>22}", "weights", "KV", "weights", "KV/token",
             "GB per decode step");
  if (card) {
    fmt::print("{:>12}", "KV tokens");
    for (const int64_t context : contexts(c))
      fmt::print("{:>12}", fmt::format("x {}k", context / 1024));
  }
  fmt::print("\n");
  for (const MemoryPlan& p : plans) {
    const std::string step =
        p.expert_step_bytes == 0
            ? giga(p.shared_step_bytes)
            : fmt::format("{} + {} D", giga(p.shared_step_bytes), giga(p.expert_step_bytes));
    fmt::print("{:<11}{:<10}{:>12}{:>10}{:>22}", p.precision, p.cache, human_bytes(p.weight_bytes),
               p.kv_token_bytes, step);
    if (card) {
      const int64_t tokens = tokens_that_fit(p, *card, kShare);
      fmt::print("{:>12}", tokens == 0 ? "too large" : std::to_string(tokens));
      for (const int64_t context : contexts(c)) fmt::print("{:>12}", tokens / context);
    }
    fmt::print("\n");
  }
  if (c.is_moe()) fmt::print("\nD: distinct experts that a step's tokens choose in a layer\n");
  if (card) fmt::print("x N: requests of N tokens each, prompt and answer, at once\n");
}

}  // namespace

void print_memory_plan(const std::filesystem::path& path, std::optional<uint64_t> card_bytes,
                       PlanFormat format) {
  const PlannedConfig config = load_planned_config(path);
  const std::vector<MemoryPlan> plans = plan_memory(config.text);
  if (format == PlanFormat::kJson) {
    fmt::print("{}\n", to_json(config, plans, card_bytes).dump(2));
  } else {
    print_text(config, plans, card_bytes);
  }
}

}  // namespace erne::cli
