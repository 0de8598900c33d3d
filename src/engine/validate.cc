#include "engine/validate.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <string_view>

#include "base/error.h"
#include "base/log.h"
#include "model/config.h"

namespace erne {
namespace {

constexpr int kMaxChoices = 128;
constexpr size_t kMaxStops = 16;
constexpr size_t kMaxStopBytes = 1024;
constexpr size_t kMaxStopIds = 1024;
constexpr int kMaxTopLogprobs = 20;
constexpr double kMaxBias = 100;

void need(bool ok, std::string_view name, double value, std::string_view valid) {
  if (!ok) fail(Code::kInvalidArgument, "{} must be {}, got {}", name, valid, value);
}

void check_ids(std::string_view name, std::span<const int32_t> ids, int64_t vocab_size) {
  for (const int32_t id : ids) {
    if (id < 0 || id >= vocab_size) {
      fail(Code::kInvalidArgument, "{}: token id {} is outside the vocabulary, valid are 0 to {}",
           name, id, vocab_size - 1);
    }
  }
}

// Comparisons are written so that NaN fails them.
void check_sampling(const SamplingParams& p, int64_t vocab_size) {
  need(p.temperature >= 0 && std::isfinite(p.temperature), "temperature", p.temperature,
       "at least 0");
  need(p.top_p > 0 && p.top_p <= 1, "top_p", p.top_p, "in (0, 1]");
  need(p.top_k == -1 || p.top_k >= 1, "top_k", p.top_k, "-1 (off) or at least 1");
  need(p.min_p >= 0 && p.min_p <= 1, "min_p", p.min_p, "in [0, 1]");
  need(p.repetition_penalty >= kMinRepetitionPenalty && p.repetition_penalty <= 2,
       "repetition_penalty", p.repetition_penalty, "in [0.001, 2]");
  need(p.frequency_penalty >= -2 && p.frequency_penalty <= 2, "frequency_penalty",
       p.frequency_penalty, "in [-2, 2]");
  need(p.presence_penalty >= -2 && p.presence_penalty <= 2, "presence_penalty", p.presence_penalty,
       "in [-2, 2]");
  for (const auto& [id, bias] : p.logit_bias) {
    check_ids("logit_bias", std::span(&id, 1), vocab_size);
    need(bias >= -kMaxBias && bias <= kMaxBias, "logit_bias", double{bias}, "in [-100, 100]");
  }
}

void check_ends(const Request& request, int64_t vocab_size) {
  check_ids("stop_token_ids", request.stop_token_ids, vocab_size);
  need(request.stop_token_ids.size() <= kMaxStopIds, "the number of stop_token_ids",
       static_cast<double>(request.stop_token_ids.size()), "at most 1024");
  need(request.stop.size() <= kMaxStops, "the number of stop strings",
       static_cast<double>(request.stop.size()), "at most 16");
  for (const std::string& stop : request.stop) {
    need(!stop.empty() && stop.size() <= kMaxStopBytes, "the length of a stop string",
         static_cast<double>(stop.size()), "1 to 1024 bytes");
  }
}

// Prompt and answer against the context; returns the length of the answer.
int64_t check_context(Request& request, const EngineOptions& options) {
  const int64_t context = options.context_length.value();
  auto prompt = static_cast<int64_t>(request.prompt_ids.size());
  if (prompt >= context) {
    if (!options.allow_auto_truncate) {
      fail(Code::kInvalidArgument,
           "the prompt has {} tokens, but this model's maximum context length is {} tokens and at "
           "least one must be left for "
           "the answer",
           prompt, context);
    }
    prompt = context - 1;
    request.prompt_ids.resize(static_cast<size_t>(prompt));
  }
  const int64_t wanted = request.max_new_tokens ? *request.max_new_tokens : context - prompt;
  if (prompt + wanted <= context) return wanted;
  if (options.allow_auto_truncate) return context - prompt;
  fail(Code::kInvalidArgument,
       "this model's maximum context length is {} tokens, but {} were asked for: {} of the prompt "
       "and {} of the answer",
       context, prompt + wanted, prompt, wanted);
}

// Drops a default that a request could not have.
template <typename T>
void keep_in_range(const char* name, std::optional<T>& value, bool ok, const char* valid) {
  if (!value || ok) return;
  log::warn("generation_config: {} must be {}, got {}; it is ignored", name, valid, *value);
  value.reset();
}

}  // namespace

void drop_unusable_defaults(GenerationConfig& g) {
  keep_in_range("temperature", g.temperature, g.temperature >= 0.0, "at least 0");
  keep_in_range("top_p", g.top_p, g.top_p > 0.0 && g.top_p <= 1.0, "in (0, 1]");
  keep_in_range("top_k", g.top_k, g.top_k >= -1, "-1 or 0 (off) or at least 1");
  keep_in_range("min_p", g.min_p, g.min_p >= 0.0 && g.min_p <= 1.0, "in [0, 1]");
  keep_in_range("repetition_penalty", g.repetition_penalty,
                g.repetition_penalty >= kMinRepetitionPenalty && g.repetition_penalty <= 2.0,
                "in [0.001, 2]");
  keep_in_range("frequency_penalty", g.frequency_penalty,
                g.frequency_penalty >= -2.0 && g.frequency_penalty <= 2.0, "in [-2, 2]");
  keep_in_range("presence_penalty", g.presence_penalty,
                g.presence_penalty >= -2.0 && g.presence_penalty <= 2.0, "in [-2, 2]");
}

int64_t validate(Request& request, const EngineOptions& options, int64_t vocab_size) {
  if (request.prompt_ids.empty())
    fail(Code::kInvalidArgument, "the prompt is empty: at least one token is needed");
  check_ids("prompt", request.prompt_ids, vocab_size);
  check_sampling(request.sampling, vocab_size);
  check_ends(request, vocab_size);
  need(request.n >= 1 && request.n <= kMaxChoices, "n", request.n, "1 to 128");
  need(request.top_logprobs >= 0 && request.top_logprobs <= kMaxTopLogprobs, "top_logprobs",
       request.top_logprobs, "0 to 20");
  need(request.stream_interval >= 1, "stream_interval", request.stream_interval, "at least 1");
  if (request.max_new_tokens)
    need(*request.max_new_tokens >= 1, "max_new_tokens", *request.max_new_tokens, "at least 1");
  const int64_t max_new_tokens = check_context(request, options);
  if (request.min_new_tokens < 0 || request.min_new_tokens > max_new_tokens) {
    fail(Code::kInvalidArgument, "min_new_tokens must be 0 to max_new_tokens ({}), got {}",
         max_new_tokens, request.min_new_tokens);
  }
  const int64_t pool = options.max_total_tokens.value();
  const auto prompt = static_cast<int64_t>(request.prompt_ids.size());
  if (prompt > pool) {
    fail(Code::kInvalidArgument,
         "the prompt has {} tokens, but the KV pool holds {}: it can never run "
         "(--max-total-tokens, --mem-fraction-static)",
         prompt, pool);
  }
  return max_new_tokens;
}

}  // namespace erne
