#include "chat/conversation.h"

#include <algorithm>
#include <string>

#include "base/error.h"
#include "base/json.h"

namespace erne {
namespace {

constexpr std::string_view kReasoningNames[] = {"reasoning_content", "thinking", "reasoning"};
constexpr std::string_view kKnownRoles[] = {"system", "developer", "user",    "assistant",
                                            "tool",   "function",  "ipython", "observation"};

OrderedJson without_nulls(const OrderedJson& message) {
  OrderedJson out = OrderedJson::object();
  for (const auto& [key, value] : message.items()) {
    if (!value.is_null()) out[key] = value;
  }
  return out;
}

// Clients and templates disagree on the field's name: transformers offers it under "thinking" and
// "reasoning_content".
OrderedJson with_reasoning(OrderedJson message) {
  for (const std::string_view name : kReasoningNames) {
    const auto found = message.find(std::string(name));
    if (found == message.end()) continue;
    const OrderedJson reasoning = *found;
    OrderedJson out = OrderedJson::object();
    out["thinking"] = message.value("thinking", reasoning);
    for (const auto& [key, value] : message.items()) out[key] = value;
    out["reasoning_content"] = reasoning;
    return out;
  }
  return message;
}

// OpenAI clients send arguments as JSON in a string; templates want the object (vLLM and SGLang
// parse it too). What is not a JSON object stays text.
void parse_arguments(OrderedJson& message) {
  const auto calls = message.find("tool_calls");
  if (calls == message.end() || !calls->is_array()) return;
  for (OrderedJson& call : *calls) {
    if (!call.is_object()) continue;
    OrderedJson& function = call.contains("function") ? call["function"] : call;
    if (!function.is_object() || !function.contains("arguments")) continue;
    OrderedJson& arguments = function["arguments"];
    if (arguments.is_null() || arguments == "") {
      arguments = OrderedJson::object();
    } else if (arguments.is_string()) {
      constexpr JsonLimits kLimits{.max_depth = 100};
      try {
        OrderedJson parsed = parse_ordered_json(arguments.get_ref<const std::string&>(),
                                                "tool call arguments", kLimits);
        if (parsed.is_object()) arguments = std::move(parsed);
      } catch (const Error&) {
        // Not JSON: templates then get the text, as the API allows.
        continue;
      }
    }
  }
}

std::string joined_parts(const OrderedJson& parts, size_t index) {
  std::string text;
  bool first = true;
  for (const OrderedJson& part : parts) {
    const OrderedJson* piece = &part;
    if (part.is_object()) {
      const std::string type = part.contains("type") && part["type"].is_string()
                                   ? part["type"].get<std::string>()
                                   : "text";
      if (type != "text" || !part.contains("text")) {
        fail(Code::kUnsupported,
             "messages[{}]: this model's chat template takes only text, not a part of type '{}'",
             index, type);
      }
      piece = &part["text"];
    }
    if (!piece->is_string())
      fail(Code::kInvalidArgument, "messages[{}]: a text part must hold a string", index);
    if (!first) text += '\n';
    text += piece->get_ref<const std::string&>();
    first = false;
  }
  return text;
}

// The string to be continued, inside `message`.
template <typename J>
J& end_of(J& message) {
  const auto content = message.find("content");
  if (content == message.end()) {
    fail(Code::kInvalidArgument,
         "continue_final_message: the final message has no content to continue");
  }
  if (content->is_string()) return *content;
  if (content->is_array()) {
    for (auto part = content->rbegin(); part != content->rend(); ++part) {
      if (!part->is_object()) continue;
      const auto text = part->find("text");
      if (text != part->end() && text->is_string()) return *text;
    }
  }
  fail(Code::kInvalidArgument, "continue_final_message: the final message has no text to continue");
}

}  // namespace

OrderedJson prepare_messages(const OrderedJson& messages, const ConversationOptions& options) {
  if (!messages.is_array() || messages.empty())
    fail(Code::kInvalidArgument, "messages must be a list, not empty");
  OrderedJson out = OrderedJson::array();
  for (size_t i = 0; i < messages.size(); ++i) {
    if (!messages[i].is_object()) fail(Code::kInvalidArgument, "messages[{}] must be an object", i);
    OrderedJson message = with_reasoning(without_nulls(messages[i]));
    parse_arguments(message);
    const auto content = message.find("content");
    if (content != message.end() && content->is_array() && options.join_parts)
      *content = joined_parts(*content, i);
    if (content == message.end() && options.fill_content) message["content"] = "";
    out.push_back(std::move(message));
  }
  if (options.mark_the_end) {
    OrderedJson& text = end_of(out.back());
    text = text.get_ref<const std::string&>() + std::string(kContinueTag);
  }
  return out;
}

std::string_view continued_text(const OrderedJson& messages) {
  return end_of(messages.back()).get_ref<const std::string&>();
}

jinja::Value conversation_value(jinja::Runtime& runtime, const OrderedJson& messages) {
  std::vector<jinja::Value> list;
  for (const OrderedJson& message : messages) {
    auto dict = std::make_shared<jinja::Dict>();
    for (const auto& [key, value] : message.items()) {
      const auto known =
          std::find(std::begin(kKnownRoles), std::end(kKnownRoles),
                    value.is_string() ? std::string_view(value.get_ref<const std::string&>()) : "");
      const bool trusted = key == "role" && known != std::end(kKnownRoles);
      set_entry(runtime, *dict, jinja::MarkedText::untrusted(key),
                trusted ? jinja::Value::text(*known) : from_json(runtime, value));
    }
    list.emplace_back(std::shared_ptr<const jinja::Dict>(std::move(dict)));
  }
  return make_list(runtime, std::move(list));
}

}  // namespace erne
