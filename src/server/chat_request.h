// A chat body becomes prompt text: messages checked, content parts joined, rendered by the
// checkpoint's template.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "base/text_range.h"
#include "server/fields.h"
#include "server/service.h"

namespace erne::server {

/// Reads messages, chat_template_kwargs, continue_final_message and add_generation_prompt and
/// renders them. Throws RequestError{kInvalidArgument, kUnsupported} with the path of what is
/// wrong, or with the template's own message.
PromptText render_chat(Fields& fields, const Service& service);

/// Messages in the form that templates expect: roles checked and mapped, text parts joined with
/// newlines, tool-call arguments parsed. For tests.
nlohmann::ordered_json read_messages(Fields& fields);

}  // namespace erne::server
