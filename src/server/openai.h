// Wire pieces that chat completions and completions share: the opening fields, usage, finish
// reasons.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "engine/request.h"
#include "server/generation.h"
#include "server/request_fields.h"

namespace erne::server {

struct AnswerHead {
  std::string id;
  const char* object;
  int64_t created;
  std::string model;
};

/// {"id","object","created","model"}.
nlohmann::ordered_json head_json(const AnswerHead& head);
/// prompt_tokens_details only with --enable-cache-report, else null.
nlohmann::ordered_json usage_json(const UsageCount& usage, bool cache_report);
/// "stop", "length" or "abort".
const char* finish_reason(const Finish& finish);
/// The token id or string that stopped it, else null.
nlohmann::ordered_json matched_stop(const Finish& finish);

}  // namespace erne::server
