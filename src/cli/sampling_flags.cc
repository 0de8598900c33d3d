#include "cli/sampling_flags.h"

#include <CLI/CLI.hpp>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "model/config.h"

namespace erne::cli {
namespace {

// One number that a user may set: its name, where it lives, what the engine accepts.
struct RealParameter {
  const char* name;
  std::optional<double> SamplingFlags::*flag;
  std::optional<double> GenerationConfig::*model_default;
  double off;  ///< the value that changes nothing
  double low, high;
  bool low_included;
  const char* range;
};

constexpr double kNoLimit = std::numeric_limits<double>::max();

const std::array<RealParameter, 6> kReals = {{
    {"temperature", &SamplingFlags::temperature, &GenerationConfig::temperature, 1, 0, kNoLimit,
     true, "0 (greedy) or more"},
    {"top_p", &SamplingFlags::top_p, &GenerationConfig::top_p, 1, 0, 1, false,
     "above 0, at most 1"},
    {"min_p", &SamplingFlags::min_p, &GenerationConfig::min_p, 0, 0, 1, true, "0 to 1"},
    {"repetition_penalty", &SamplingFlags::repetition_penalty,
     &GenerationConfig::repetition_penalty, 1, 0.001, 2, true, "0.001 to 2"},
    {"frequency_penalty", &SamplingFlags::frequency_penalty, &GenerationConfig::frequency_penalty,
     0, -2, 2, true, "-2 to 2"},
    {"presence_penalty", &SamplingFlags::presence_penalty, &GenerationConfig::presence_penalty, 0,
     -2, 2, true, "-2 to 2"},
}};

const RealParameter* find_real(const std::string& name) {
  for (const RealParameter& parameter : kReals) {
    if (name == parameter.name) return &parameter;
  }
  return nullptr;
}

double value_of(const RealParameter& p, const SamplingFlags& flags,
                const GenerationConfig& defaults) {
  if (flags.*p.flag) return *(flags.*p.flag);
  return (defaults.*p.model_default).value_or(p.off);
}

template <typename T>
T parse_number(const std::string& name, const std::string& text, const char* range) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    fail(Code::kInvalidArgument, "{} must be a number, {}, got \"{}\"", name, range, text);
  }
  return value;
}

void set_real(SamplingFlags& flags, const RealParameter& p, const std::string& text) {
  const auto value = parse_number<double>(p.name, text, p.range);
  const bool inside =
      std::isfinite(value) && (p.low_included ? value >= p.low : value > p.low) && value <= p.high;
  if (!inside) fail(Code::kInvalidArgument, "{} must be {}, got {}", p.name, p.range, text);
  flags.*p.flag = value;
}

template <typename T>
std::string with_origin(const std::optional<T>& set, const std::string& otherwise) {
  return set ? fmt::format("{}", *set) : otherwise + " (default)";
}

}  // namespace

void add_sampling_flags(CLI::App& app, SamplingFlags& f) {
  const char* group = "Sampling";
  auto add = [&](const char* name, auto& value, const char* help) {
    return app.add_option(name, value, help)->group(group)->take_last();
  };
  add("--max-new-tokens,--max-tokens", f.max_new_tokens, "Longest answer in tokens");
  add("--temperature", f.temperature, "0 is greedy (from generation_config.json)");
  add("--top-p", f.top_p,
      "Keep the likeliest tokens up to this total (from generation_config.json)");
  add("--top-k", f.top_k, "Keep so many likeliest tokens; -1: all (from generation_config.json)");
  add("--min-p", f.min_p, "Keep tokens with at least this share of the best one's probability");
  add("--repetition-penalty", f.repetition_penalty,
      "Above 1 makes tokens of the text so far less likely");
  add("--frequency-penalty", f.frequency_penalty, "Taken off per earlier use in the answer");
  add("--presence-penalty", f.presence_penalty, "Taken off once for tokens used in the answer");
  add("--seed", f.seed, "Same seed, same answer (fresh for each request)");
  app.add_option("--stop", f.stop, "Text that ends the answer; may be repeated")
      ->group(group)
      ->allow_extra_args(false);
  app.add_option("--stop-token-ids", f.stop_token_ids, "Token ids that end it: 1,2,3")
      ->delimiter(',')
      ->group(group)
      ->allow_extra_args(false);
  add("--min-new-tokens", f.min_new_tokens, "No end before so many tokens")->capture_default_str();
  app.add_flag("--ignore-eos", f.ignore_eos, "Go on past the end token")->group(group);
}

void apply_sampling(const SamplingFlags& flags, const GenerationConfig& defaults,
                    Request& request) {
  SamplingParams& sampling = request.sampling;
  sampling.temperature = value_of(kReals[0], flags, defaults);
  sampling.top_p = value_of(kReals[1], flags, defaults);
  sampling.min_p = value_of(kReals[2], flags, defaults);
  sampling.repetition_penalty = value_of(kReals[3], flags, defaults);
  sampling.frequency_penalty = value_of(kReals[4], flags, defaults);
  sampling.presence_penalty = value_of(kReals[5], flags, defaults);
  // Files write 0 for "off", the engine -1.
  const int top_k = flags.top_k.value_or(defaults.top_k.value_or(-1));
  sampling.top_k = !flags.top_k && top_k == 0 ? -1 : top_k;
  sampling.seed = flags.seed;
  request.max_new_tokens = flags.max_new_tokens;
  request.min_new_tokens = flags.min_new_tokens;
  request.stop = flags.stop;
  request.stop_token_ids = flags.stop_token_ids;
  request.ignore_eos = flags.ignore_eos;
}

std::vector<std::string> parameter_names() {
  std::vector<std::string> names;
  for (const RealParameter& parameter : kReals) names.emplace_back(parameter.name);
  names.insert(names.end(), {"top_k", "seed", "max_tokens"});
  return names;
}

void set_parameter(SamplingFlags& flags, const std::string& name, const std::string& value) {
  const bool reset = value == "default";
  if (const RealParameter* real = find_real(name)) {
    if (reset) {
      (flags.*real->flag).reset();
    } else {
      set_real(flags, *real, value);
    }
  } else if (name == "top_k") {
    const int top_k = reset ? -1 : parse_number<int>(name, value, "-1 (all) or 1 and more");
    if (top_k != -1 && top_k < 1)
      fail(Code::kInvalidArgument, "top_k must be -1 (all) or 1 and more, got {}", value);
    flags.top_k = reset ? std::nullopt : std::optional(top_k);
  } else if (name == "seed") {
    flags.seed =
        reset ? std::nullopt : std::optional(parse_number<uint64_t>(name, value, "0 or more"));
  } else if (name == "max_tokens") {
    const int tokens = reset ? 1 : parse_number<int>(name, value, "1 or more");
    if (tokens < 1) fail(Code::kInvalidArgument, "max_tokens must be 1 or more, got {}", value);
    flags.max_new_tokens = reset ? std::nullopt : std::optional(tokens);
  } else {
    fail(Code::kInvalidArgument, "unknown parameter \"{}\"; use one of {}", name,
         fmt::join(parameter_names(), ", "));
  }
}

std::string show_parameter(const SamplingFlags& flags, const GenerationConfig* defaults,
                           const std::string& name) {
  const std::string by_server = "the server's";
  if (const RealParameter* real = find_real(name)) {
    const std::string otherwise =
        defaults ? fmt::format("{}", value_of(*real, {}, *defaults)) : by_server;
    return with_origin(flags.*real->flag, otherwise);
  }
  if (name == "top_k") {
    return with_origin(flags.top_k,
                       defaults ? fmt::format("{}", defaults->top_k.value_or(-1)) : by_server);
  }
  if (name == "seed") return with_origin(flags.seed, "fresh for each answer");
  if (name == "max_tokens") return with_origin(flags.max_new_tokens, "rest of the context");
  fail(Code::kInvalidArgument, "unknown parameter \"{}\"", name);
}

}  // namespace erne::cli
