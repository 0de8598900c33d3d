#include "cli/prompt_input.h"

#include <algorithm>
#include <charconv>
#include <functional>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "chat/chat_template.h"
#include "token/tokenizer.h"

namespace erne::cli {
namespace {

bool is_message_list(const OrderedJson& value) {
  return value.is_array() && !value.empty() && value[0].is_object() && value[0].contains("role");
}

// One conversation, or a list of conversations.
void add_conversations(const OrderedJson& value, const std::string& where,
                       std::vector<PromptInput>& inputs) {
  if (is_message_list(value) || (value.is_object() && value.contains("messages"))) {
    const OrderedJson& messages = value.is_object() ? value["messages"] : value;
    check_messages(messages, where);
    inputs.push_back(Conversation{dump_json(messages)});
    return;
  }
  if (!value.is_array() || value.empty()) {
    fail(Code::kInvalidArgument,
         "{}: expected a list of messages or {{\"messages\": [...]}}, got {}", where,
         dump_json(value).substr(0, 100));
  }
  for (size_t i = 0; i < value.size(); ++i) {
    if (value[i].is_array() && !is_message_list(value[i])) {
      fail(Code::kInvalidArgument, "{}: item {} is not a list of messages", where, i);
    }
    add_conversations(value[i], fmt::format("{} item {}", where, i), inputs);
  }
}

int32_t checked_id(int64_t id, const std::string& where) {
  if (id < 0 || id > INT32_MAX) fail(Code::kInvalidArgument, "{}: {} is not a token id", where, id);
  return static_cast<int32_t>(id);
}

TokenIds ids_of_json(const Json& value, const std::string& where) {
  const Json* list = &value;
  for (const char* key : {"input_ids", "prompt_ids"}) {
    if (value.is_object() && value.contains(key)) list = &value[key];
  }
  TokenIds input;
  const bool integers =
      list->is_array() && std::all_of(list->begin(), list->end(),
                                      [](const Json& id) { return id.is_number_integer(); });
  if (!integers || list->empty()) {
    fail(Code::kInvalidArgument,
         "{}: expected a list of token ids or {{\"input_ids\": [...]}}, got {}", where,
         dump_json(value).substr(0, 100));
  }
  for (const Json& id : *list) input.ids.push_back(checked_id(id.get<int64_t>(), where));
  return input;
}

TokenIds ids_of_text(const std::string& text) {
  TokenIds input;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string word = text.substr(begin, end - begin);
    begin = end + 1;
    int64_t id = -1;
    const auto [rest, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    if (error != std::errc() || rest != word.data() + word.size()) {
      fail(Code::kInvalidArgument,
           "--input-ids takes ids like 1,2,3 or a file, got \"{}\" in \"{}\"", word, text);
    }
    input.ids.push_back(checked_id(id, "--input-ids"));
  }
  return input;
}

std::vector<int32_t> conversation_ids(const Conversation& conversation, const Tokenizer& tokenizer,
                                      const ChatTemplate& chat_template,
                                      const std::string& kwargs) {
  const OrderedJson messages = parse_ordered_json(conversation.messages, "messages");
  const OrderedJson arguments =
      kwargs.empty() ? OrderedJson() : parse_ordered_json(kwargs, "--chat-template-kwargs");
  if (!kwargs.empty() && !arguments.is_object()) {
    fail(Code::kInvalidArgument, "--chat-template-kwargs must be a JSON object, got {}",
         arguments.type_name());
  }
  ChatInput input;
  input.messages = &messages;
  if (!kwargs.empty()) input.kwargs = &arguments;
  return tokenizer.encode(chat_template.render(input));
}

}  // namespace

void check_messages(const OrderedJson& messages, const std::string& where) {
  if (!is_message_list(messages)) {
    fail(Code::kInvalidArgument,
         "{}: \"messages\" must be a list of {{\"role\", \"content\"}} objects, got {}", where,
         dump_json(messages).substr(0, 100));
  }
  for (size_t i = 0; i < messages.size(); ++i) {
    const OrderedJson& message = messages[i];
    if (!message.is_object() || !message.contains("role") || !message["role"].is_string()) {
      fail(Code::kInvalidArgument, "{}: message {} needs a \"role\" that is a string", where, i);
    }
  }
}

void each_line(const std::string& text, const std::string& path,
               const std::function<void(std::string_view line, const std::string& where)>& read) {
  size_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") != std::string_view::npos)
      read(line, fmt::format("{} line {}", path, number));
  }
}

std::vector<PromptInput> read_messages(const std::string& path) {
  const std::string text = read_file(path);
  std::vector<PromptInput> inputs;
  if (OrderedJson::accept(text)) {
    add_conversations(parse_ordered_json(text, path), path, inputs);
    return inputs;
  }
  // More than one line that opens an object or a list: JSON lines; anything else is one broken
  // document.
  const std::string_view first_line = std::string_view(text).substr(0, text.find('\n'));
  if (!OrderedJson::accept(first_line)) parse_ordered_json(text, path);
  each_line(text, path, [&](std::string_view line, const std::string& where) {
    add_conversations(parse_ordered_json(line, where), where, inputs);
  });
  return inputs;
}

std::vector<PromptInput> read_input_ids(const std::string& ids_or_path) {
  if (ids_or_path.find_first_not_of("0123456789,- ") == std::string::npos)
    return {ids_of_text(ids_or_path)};
  std::vector<PromptInput> inputs;
  each_line(read_file(ids_or_path), ids_or_path,
            [&](std::string_view line, const std::string& where) {
              inputs.push_back(ids_of_json(parse_json(line, where), where));
            });
  if (inputs.empty()) fail(Code::kInvalidArgument, "{} holds no token ids", ids_or_path);
  return inputs;
}

std::vector<int32_t> to_ids(const PromptInput& input, const Tokenizer& tokenizer,
                            const ChatTemplate* chat_template, const std::string& kwargs) {
  if (const auto* ids = std::get_if<TokenIds>(&input)) return ids->ids;
  if (const auto* conversation = std::get_if<Conversation>(&input)) {
    ERNE_CHECK(chat_template != nullptr);
    return conversation_ids(*conversation, tokenizer, *chat_template, kwargs);
  }
  std::vector<int32_t> ids = tokenizer.encode(std::get<RawText>(input).text);
  if (tokenizer.add_bos() && tokenizer.bos_id()) ids.insert(ids.begin(), *tokenizer.bos_id());
  return ids;
}

}  // namespace erne::cli
