// A request's messages in the form that chat templates expect, following transformers'
// apply_chat_template.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "chat/jinja/value.h"

namespace erne {

/// What transformers appends to the message to be continued, to find its end in the rendered text.
/// The template may trim the blank at the end.
inline constexpr std::string_view kContinueTag = "CONTINUE_FINAL_MESSAGE_TAG ";

struct ConversationOptions {
  bool join_parts = true;     ///< content given as a list of text parts becomes one string
  bool fill_content = false;  ///< a message without content gets an empty one
  bool mark_the_end = false;  ///< kContinueTag goes behind the last message's content
};

/// Null fields dropped, reasoning under all its names, tool call arguments parsed, content joined.
/// Throws Error{kInvalidArgument} for messages of the wrong shape, Error{kUnsupported} for parts
/// that are not text.
nlohmann::ordered_json prepare_messages(const nlohmann::ordered_json& messages,
                                        const ConversationOptions& options);

/// The last message's text that is to be continued: its content, or the last text part of it.
std::string_view continued_text(const nlohmann::ordered_json& messages);

/// As jinja::from_json, but roles that every template knows are trusted: templates build special
/// tokens from them.
jinja::Value conversation_value(jinja::Runtime& runtime, const nlohmann::ordered_json& messages);

}  // namespace erne
