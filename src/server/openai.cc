#include "server/openai.h"

#include "base/json.h"

namespace erne::server {

OrderedJson head_json(const AnswerHead& head) {
  return {
      {"id", head.id}, {"object", head.object}, {"created", head.created}, {"model", head.model}};
}

OrderedJson usage_json(const UsageCount& usage, bool cache_report) {
  const int prompt = usage.prompt_tokens();
  const int completion = usage.completion_tokens();
  OrderedJson out = {{"prompt_tokens", prompt},
                     {"completion_tokens", completion},
                     {"total_tokens", prompt + completion},
                     {"reasoning_tokens", 0},
                     {"prompt_tokens_details", nullptr}};
  if (cache_report) out["prompt_tokens_details"]["cached_tokens"] = usage.cached_tokens();
  out["completion_tokens_details"]["reasoning_tokens"] = 0;
  return out;
}

const char* finish_reason(const Finish& finish) {
  switch (finish.reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kAbort:
    case FinishReason::kError:
      break;
  }
  return "abort";
}

OrderedJson matched_stop(const Finish& finish) {
  if (const auto* id = std::get_if<int32_t>(&finish.matched)) return *id;
  if (const auto* text = std::get_if<std::string>(&finish.matched)) return *text;
  return nullptr;
}

}  // namespace erne::server
