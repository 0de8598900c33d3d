#include "server/chat_request.h"

#include "base/json.h"
#include "base/log.h"
#include "server/api_error.h"

namespace erne::server {
namespace {

std::string read_role(Fields& message) {
  const auto role = message.string("role");
  if (!role) refuse_field(message.path("role"), "is required");
  if (*role == "developer") return "system";
  if (*role == "function") return "tool";
  if (*role == "system" || *role == "user" || *role == "assistant" || *role == "tool") return *role;
  refuse_field(message.path("role"), "must be system, developer, user, assistant or tool, got '{}'",
               role->substr(0, 64));
}

std::string read_part(const OrderedJson& value, const std::string& path) {
  Fields part(value, path);
  const auto type = part.string("type");
  if (!type) refuse_field(part.path("type"), "is required");
  if (*type == "text") {
    const auto text = part.string("text");
    if (!text) refuse_field(part.path("text"), "is required");
    return *text;
  }
  const bool media = *type == "image_url" || *type == "video_url" || *type == "input_audio" ||
                     *type == "audio_url" || *type == "image" || *type == "video";
  if (!media) refuse_field(part.path("type"), "must be text, got '{}'", type->substr(0, 64));
  throw RequestError(
      Code::kUnsupported, path,
      fmt::format("{}: {} input is not available in this version of erne; send text parts", path,
                  type->starts_with("image")   ? "image"
                  : type->starts_with("video") ? "video"
                                               : "audio"));
}

// Templates of text models take a string: text parts are joined with a newline (as vLLM does).
std::string read_content(Fields& message, const std::string& role) {
  const OrderedJson* content = message.find("content");
  if (content == nullptr) {
    if (role == "assistant") return {};
    refuse_field(message.path("content"), "must be a string or an array of parts");
  }
  if (content->is_string()) return content->get<std::string>();
  if (!content->is_array()) {
    refuse_field(message.path("content"), "must be a string or an array of parts, got {}",
                 shown(*content));
  }
  std::string text;
  for (size_t i = 0; i < content->size(); ++i) {
    if (i > 0) text += '\n';
    text += read_part((*content)[i], fmt::format("{}.{}", message.path("content"), i));
  }
  return text;
}

/// Templates print arguments as JSON: an object stays one, text that is no JSON stays text.
OrderedJson read_arguments(const std::string& text) {
  try {
    return parse_ordered_json(text, "arguments");
  } catch (const Error&) {
    return text;
  }
}

OrderedJson read_tool_calls(const OrderedJson& calls, const std::string& path) {
  if (!calls.is_array()) refuse_field(path, "must be an array, got {}", shown(calls));
  OrderedJson out = OrderedJson::array();
  for (size_t i = 0; i < calls.size(); ++i) {
    Fields call(calls[i], fmt::format("{}.{}", path, i));
    const OrderedJson* function = call.find("function");
    if (function == nullptr) refuse_field(call.path("function"), "is required");
    Fields f(*function, call.path("function"));
    const auto name = f.string("name");
    if (!name) refuse_field(f.path("name"), "is required");
    OrderedJson copy = calls[i];
    if (const OrderedJson* arguments = f.find("arguments");
        arguments != nullptr && arguments->is_string()) {
      copy["function"]["arguments"] = read_arguments(arguments->get<std::string>());
    }
    out.push_back(std::move(copy));
  }
  return out;
}

OrderedJson read_message(const OrderedJson& value, const std::string& path) {
  Fields fields(value, path);
  OrderedJson message;
  const std::string role = read_role(fields);
  message["role"] = role;
  message["content"] = read_content(fields, role);
  for (const char* name : {"name", "tool_call_id"}) {
    if (const auto text = fields.string(name)) message[name] = *text;
  }
  if (role == "tool" && fields.find("tool_call_id") == nullptr)
    log::warn("{}: a tool message without tool_call_id: which call it answers is unknown", path);
  auto reasoning = fields.string("reasoning_content");
  if (!reasoning) reasoning = fields.string("reasoning");
  if (reasoning) message["reasoning_content"] = *reasoning;
  if (const OrderedJson* calls = fields.find("tool_calls");
      calls != nullptr && role == "assistant") {
    message["tool_calls"] = read_tool_calls(*calls, fields.path("tool_calls"));
  }
  return message;
}

OrderedJson read_kwargs(Fields& fields, const Service& service) {
  OrderedJson kwargs =
      parse_ordered_json(service.options.template_kwargs, "--default-chat-template-kwargs");
  if (const OrderedJson* own = fields.find("chat_template_kwargs")) {
    Fields checked(*own, fields.path("chat_template_kwargs"));
    for (const auto& item : own->items()) kwargs[item.key()] = item.value();
  }
  if (const auto effort = fields.string("reasoning_effort", 32))
    kwargs["reasoning_effort"] = *effort;
  return kwargs;
}

}  // namespace

OrderedJson read_messages(Fields& fields) {
  const OrderedJson* messages = fields.find("messages");
  const std::string path = fields.path("messages");
  if (messages == nullptr) refuse_field(path, "is required");
  if (!messages->is_array() || messages->empty()) {
    refuse_field(path, "must be a non-empty array, got {}", shown(*messages));
  }
  OrderedJson out = OrderedJson::array();
  for (size_t i = 0; i < messages->size(); ++i) {
    out.push_back(read_message((*messages)[i], fmt::format("{}.{}", path, i)));
  }
  return out;
}

PromptText render_chat(Fields& fields, const Service& service) {
  const OrderedJson messages = read_messages(fields);
  const OrderedJson kwargs = read_kwargs(fields, service);
  ChatInput input;
  input.messages = &messages;
  input.kwargs = &kwargs;
  input.continue_final_message = fields.boolean("continue_final_message").value_or(false);
  const auto add = fields.boolean("add_generation_prompt");
  input.add_generation_prompt = add.value_or(!input.continue_final_message);
  if (input.continue_final_message && input.add_generation_prompt) {
    refuse_field(fields.path("add_generation_prompt"), "must be false with continue_final_message");
  }
  if (input.continue_final_message && messages.back()["role"] != "assistant") {
    refuse_field(fields.path("continue_final_message"), "needs an assistant message at the end");
  }
  try {
    return service.backend.load()->chat_template().render(input);
  } catch (const Error& e) {
    throw RequestError(e.code(), fields.path("messages"),
                       fmt::format("chat template: {}", e.what()));
  }
}

}  // namespace erne::server
