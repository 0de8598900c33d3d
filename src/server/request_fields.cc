#include "server/request_fields.h"

#include <algorithm>
#include <charconv>
#include <limits>

#include "base/json.h"
#include "base/log.h"
#include "server/api_error.h"

namespace erne::server {
namespace {

constexpr int64_t kMaxTokens = std::numeric_limits<int32_t>::max();
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr size_t kMaxStops = 16;
constexpr size_t kMaxStopBytes = 1024;
constexpr size_t kMaxNameBytes = 256;

/// `0 < value <= most`.
std::optional<double> positive(Fields& fields, const char* name, double most) {
  const auto value = fields.number(name, 0, most);
  if (value && *value == 0)
    refuse_field(fields.path(name), "must be above 0 and at most {}, got 0", most);
  return value;
}

void read_distribution(Fields& fields, const GenerationConfig& defaults, SamplingParams& s) {
  s.temperature =
      fields.number("temperature", 0, kInfinity).value_or(defaults.temperature.value_or(1.0));
  s.top_p = positive(fields, "top_p", 1).value_or(defaults.top_p.value_or(1.0));
  s.min_p = fields.number("min_p", 0, 1).value_or(defaults.min_p.value_or(0.0));
  s.repetition_penalty = fields.number("repetition_penalty", 0.001, 2)
                             .value_or(defaults.repetition_penalty.value_or(1.0));
  s.frequency_penalty =
      fields.number("frequency_penalty", -2, 2).value_or(defaults.frequency_penalty.value_or(0.0));
  s.presence_penalty =
      fields.number("presence_penalty", -2, 2).value_or(defaults.presence_penalty.value_or(0.0));
  const int default_top_k = defaults.top_k.value_or(-1);
  s.top_k = static_cast<int>(
      fields.integer("top_k", -1, kMaxTokens).value_or(default_top_k < 1 ? -1 : default_top_k));
  if (s.top_k == 0) refuse_field(fields.path("top_k"), "must be -1 (off) or at least 1, got 0");
}

std::optional<uint64_t> read_seed(Fields& fields, const char* name) {
  const OrderedJson* value = fields.find(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_number_unsigned()) return value->get<uint64_t>();
  return static_cast<uint64_t>(*fields.integer(name, INT64_MIN, INT64_MAX));
}

void read_logit_bias(Fields& fields, int64_t vocab_size, SamplingParams& sampling) {
  const OrderedJson* value = fields.find("logit_bias");
  if (value == nullptr) return;
  Fields biases(*value, fields.path("logit_bias"));
  for (const auto& item : value->items()) {
    const std::string& key = item.key();
    int32_t id = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc{} || end != key.data() + key.size() || id < 0 || id >= vocab_size) {
      refuse_field(biases.path(key.substr(0, 32)), "keys must be token ids from 0 to {}",
                   vocab_size - 1);
    }
    const auto bias = biases.number(key, -100, 100);
    if (bias) sampling.logit_bias.emplace_back(id, static_cast<float>(*bias));
  }
}

void read_stops(Fields& fields, int64_t vocab_size, Request& request) {
  request.stop = fields.strings("stop");
  if (request.stop.size() > kMaxStops) {
    refuse_field(fields.path("stop"), "must have at most {} strings, got {}", kMaxStops,
                 request.stop.size());
  }
  for (size_t i = 0; i < request.stop.size(); ++i) {
    const size_t size = request.stop[i].size();
    if (size == 0 || size > kMaxStopBytes) {
      refuse_field(fmt::format("{}.{}", fields.path("stop"), i), "must have 1 to {} bytes, got {}",
                   kMaxStopBytes, size);
    }
  }
  request.stop_token_ids = fields.ids("stop_token_ids", vocab_size);
  request.ignore_eos = fields.boolean("ignore_eos").value_or(false);
  request.no_stop_trim = fields.boolean("no_stop_trim").value_or(false);
  request.skip_special_tokens = fields.boolean("skip_special_tokens").value_or(true);
  // Between special tokens our tokenizers put no spaces, so there is nothing to switch: only the
  // type is checked.
  fields.boolean("spaces_between_special_tokens");
}

void read_limits(Fields& fields, const SamplingNames& names, Request& request) {
  auto most = fields.integer(names.max_tokens, 1, kMaxTokens);
  if (names.max_tokens_alias != nullptr) {
    const auto alias = fields.integer(names.max_tokens_alias, 1, kMaxTokens);
    if (!most) most = alias;
  }
  if (most) request.max_new_tokens = static_cast<int>(*most);
  request.min_new_tokens =
      static_cast<int>(fields.integer(names.min_tokens, 0, kMaxTokens).value_or(0));
  if (request.max_new_tokens && request.min_new_tokens > *request.max_new_tokens) {
    refuse_field(fields.path(names.min_tokens), "must be at most {} ({}), got {}", names.max_tokens,
                 *request.max_new_tokens, request.min_new_tokens);
  }
}

/// Whether a JSON value asks for something: null, false, "" and empty containers do not.
bool asks(const OrderedJson* value) {
  if (value == nullptr) return false;
  if (value->is_boolean()) return value->get<bool>();
  if (value->is_string()) return !value->get_ref<const std::string&>().empty();
  return !value->is_structured() || !value->empty();
}

struct Feature {
  const char* field;
  const char* name;
};
constexpr Feature kUnavailable[] = {
    {"regex", "structured output"},
    {"ebnf", "structured output"},
    {"json_schema", "structured output"},
    {"structural_tag", "structured output"},
    {"guided_json", "structured output"},
    {"guided_regex", "structured output"},
    {"guided_choice", "structured output"},
    {"guided_grammar", "structured output"},
    {"structured_outputs", "structured output"},
    {"stop_regex", "stopping at a regular expression"},
    {"functions", "tool calling"},
    {"function_call", "tool calling"},
    {"lora_path", "LoRA adapters"},
    {"session_params", "sessions"},
    {"return_hidden_states", "returning hidden states"},
    {"custom_logit_processor", "custom logit processors"},
    {"custom_params", "custom logit processors"},
    {"image_data", "image input"},
    {"video_data", "video input"},
    {"audio_data", "audio input"},
    {"input_embeds", "embedding input"},
    {"reasoning", "reasoning control"},
    {"reasoning_max_tokens", "a reasoning budget"},
    {"thinking_budget", "a reasoning budget"},
    {"separate_reasoning", "splitting off reasoning (content is the raw text)"},
    {"token_ids_logprob", "logprobs of chosen ids"},
    {"use_beam_search", "beam search"},
    {"bootstrap_host", "prefill/decode disaggregation"},
    {"bootstrap_port", "prefill/decode disaggregation"},
    {"bootstrap_room", "prefill/decode disaggregation"},
};

[[noreturn]] void refuse_feature(const std::string& param, const char* feature) {
  throw RequestError(
      Code::kUnsupported, param,
      fmt::format("{}: {} is not available in this version of erne", param, feature));
}

void refuse_tools(Fields& fields) {
  const OrderedJson* tools = fields.find("tools");
  const OrderedJson* choice = fields.find("tool_choice");
  if (tools != nullptr && !tools->is_array())
    refuse_field(fields.path("tools"), "must be an array");
  if (choice != nullptr) {
    const bool word =
        choice->is_string() && (*choice == "none" || *choice == "auto" || *choice == "required");
    if (!word && !choice->is_object()) {
      refuse_field(fields.path("tool_choice"),
                   "must be none, auto, required or a named function, got {}", shown(*choice));
    }
    if (*choice == "none") return;  // the tools are not shown to the template
    if (*choice != "auto") refuse_feature(fields.path("tool_choice"), "tool calling");
  }
  if (asks(tools)) refuse_feature(fields.path("tools"), "tool calling");
}

void refuse_response_format(Fields& fields) {
  const OrderedJson* value = fields.find("response_format");
  if (value == nullptr) return;
  Fields format(*value, fields.path("response_format"));
  const auto type = format.string("type");
  if (!type) refuse_field(format.path("type"), "is required");
  if (*type == "text") return;
  if (*type != "json_object" && *type != "json_schema" && *type != "structural_tag") {
    refuse_field(format.path("type"),
                 "must be text, json_object, json_schema or structural_tag, got '{}'",
                 type->substr(0, 64));
  }
  refuse_feature(format.path("type"), "structured output");
}

}  // namespace

void read_sampling(Fields& fields, const SamplingNames& names, Service& service, Request& request) {
  const Backend& backend = *service.backend.load();
  const int64_t vocab_size = backend.config().vocab_size;
  static const GenerationConfig kNeutral;
  read_distribution(
      fields, service.options.sampling_defaults_of_model ? backend.generation_config() : kNeutral,
      request.sampling);
  request.sampling.seed = read_seed(fields, "seed");
  if (names.seed_alias != nullptr && !request.sampling.seed) {
    request.sampling.seed = read_seed(fields, names.seed_alias);
  }
  read_logit_bias(fields, vocab_size, request.sampling);
  request.n = static_cast<int>(fields.integer("n", 1, 128).value_or(1));
  read_stops(fields, vocab_size, request);
  read_limits(fields, names, request);
  request.stream_interval = service.options.stream_interval;
}

void check_model_name(const std::string& model, const Service& service) {
  const ServerOptions& options = service.options;
  const auto is_base = [&](std::string_view name) {
    return name == options.served_model_name || name == options.model_path;
  };
  const size_t colon = model.rfind(':');
  const bool adapter =
      colon != std::string::npos && is_base(std::string_view(model).substr(0, colon));
  if (is_base(model) || (!adapter && !options.strict_model_name)) return;
  throw RequestError(Code::kNotFound, "model",
                     fmt::format("The model '{}' does not exist. Known: {}",
                                 model.substr(0, kMaxNameBytes), options.served_model_name));
}

Envelope read_envelope(Fields& fields, const std::string& id_prefix, const Service& service) {
  Envelope e;
  e.model = fields.string("model", kMaxNameBytes).value_or("default");
  if (fields.find("model") != nullptr) check_model_name(e.model, service);
  e.rid = fields.string("rid", kMaxNameBytes).value_or("");
  // It is printed in logs: no line breaks, escapes or spaces.
  if (!std::ranges::all_of(e.rid, [](char c) { return c > ' ' && c < '\x7f'; })) {
    refuse_field(fields.path("rid"), "must be visible ASCII without spaces");
  }
  if (e.rid.empty()) e.rid = id_prefix + fresh_id();
  const std::string extra = fields.string("extra_key", kMaxNameBytes).value_or("");
  const std::string salt = fields.string("cache_salt", kMaxNameBytes).value_or("");
  if (!extra.empty() || !salt.empty()) e.salt = fmt::format("{}:{}{}", extra.size(), extra, salt);
  e.stream = fields.boolean("stream").value_or(false);
  if (const OrderedJson* value = fields.find("stream_options")) {
    Fields options(*value, fields.path("stream_options"));
    e.include_usage = options.boolean("include_usage").value_or(false);
    e.continuous_usage = options.boolean("continuous_usage_stats").value_or(false);
  }
  // Known, with no effect in this version: one rank, no priorities, and labels for the client's own
  // use.
  fields.integer("priority", INT32_MIN, INT32_MAX);
  fields.integer("data_parallel_rank", 0, 0);
  for (const char* label :
       {"user", "metadata", "store", "service_tier", "stream_reasoning", "parallel_tool_calls"}) {
    fields.find(label);
  }
  return e;
}

void refuse_unavailable(Fields& fields) {
  for (const Feature& feature : kUnavailable) {
    if (asks(fields.find(feature.field))) refuse_feature(fields.path(feature.field), feature.name);
  }
  refuse_tools(fields);
  refuse_response_format(fields);
}

void fit_context(Request& request, const ContextFields& names, const Service& service) {
  const int64_t context = service.backend.load()->context_length();
  const auto prompt = static_cast<int64_t>(request.prompt_ids.size());
  if (prompt == 0) refuse_field(names.prompt, "has no tokens; at least one is needed");
  if (service.options.allow_auto_truncate) {
    if (prompt >= context) {
      log::warn("a prompt of {} tokens is cut to {} (--allow-auto-truncate)", prompt, context - 1);
      request.prompt_ids.resize(static_cast<size_t>(context - 1));
    }
    const int64_t room = context - static_cast<int64_t>(request.prompt_ids.size());
    if (request.max_new_tokens) {
      request.max_new_tokens = static_cast<int>(std::min<int64_t>(*request.max_new_tokens, room));
      request.min_new_tokens = std::min(request.min_new_tokens, *request.max_new_tokens);
    }
    return;
  }
  if (prompt >= context) {
    throw RequestError(
        Code::kInvalidArgument, names.prompt,
        fmt::format(
            "This model's maximum context length is {} tokens, but the prompt has {} tokens "
            "and {} were requested for the answer. Shorten the prompt.",
            context, prompt, request.max_new_tokens.value_or(1)),
        "context_length_exceeded");
  }
  if (request.max_new_tokens && prompt + *request.max_new_tokens > context) {
    throw RequestError(
        Code::kInvalidArgument, names.max_tokens,
        fmt::format(
            "This model's maximum context length is {} tokens, but {} were requested: {} of "
            "the prompt and {} for the answer ({}).",
            context, prompt + *request.max_new_tokens, prompt, *request.max_new_tokens,
            names.max_tokens),
        "context_length_exceeded");
  }
}

}  // namespace erne::server
