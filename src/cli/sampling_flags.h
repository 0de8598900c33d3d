// How an answer is drawn and when it ends: the flags that `erne generate` and `erne chat` share,
// and the names that
// `/set` knows. Defaults are those that `erne serve` applies: generation_config.json, else none of
// the filters.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/request.h"

namespace CLI {
class App;
}

namespace erne {
struct GenerationConfig;
}

namespace erne::cli {

struct SamplingFlags {
  std::optional<double> temperature, top_p, min_p;
  std::optional<double> repetition_penalty, frequency_penalty, presence_penalty;
  std::optional<int> top_k;
  std::optional<uint64_t> seed;
  std::optional<int> max_new_tokens;
  int min_new_tokens = 0;
  std::vector<std::string> stop;
  std::vector<int32_t> stop_token_ids;
  bool ignore_eos = false;
};

/// Adds the group "Sampling". `flags` must outlive the parse.
void add_sampling_flags(CLI::App& app, SamplingFlags& flags);

/// Every value of `request` that the flags govern: flag, else `defaults`, else off. Ranges are
/// checked by Engine::submit.
void apply_sampling(const SamplingFlags& flags, const GenerationConfig& defaults, Request& request);

/// What `/set` changes, in the order in which `/params` shows it.
std::vector<std::string> parameter_names();
/// Sets one by name ("temperature", "top_p", "max_tokens", …); the value "default" takes it back.
/// Throws Error{kInvalidArgument} naming what would be valid.
void set_parameter(SamplingFlags& flags, const std::string& name, const std::string& value);
/// The value in force as text, with "(default)" where nobody set it. `defaults` null: a server
/// keeps them.
std::string show_parameter(const SamplingFlags& flags, const GenerationConfig* defaults,
                           const std::string& name);

}  // namespace erne::cli
