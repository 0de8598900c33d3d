#include "cli/chat_commands.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"

namespace erne::cli {
namespace {

constexpr size_t kMaxFileBytes = size_t{64} << 20;

struct Input {
  ChatState& state;
  const ChatBackend& backend;
  std::string argument;  ///< what follows the command's name, trimmed
};

std::string trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\n");
  if (begin == std::string_view::npos) return {};
  return std::string(text.substr(begin, text.find_last_not_of(" \t\n") - begin + 1));
}

std::string show_system(Input& in) {
  if (in.argument.empty()) {
    return in.state.system.empty()
               ? "no system prompt; /system TEXT sets one, /system none takes it away\n"
               : in.state.system + "\n";
  }
  in.state.system = in.argument == "none" ? "" : in.argument;
  return in.state.system.empty() ? "system prompt removed\n"
                                 : "system prompt set; it holds from the next message\n";
}

std::string reset(Input& in) {
  const size_t count = in.state.messages.size();
  in.state.messages.clear();
  return fmt::format("conversation cleared ({} messages); the system prompt stays\n", count);
}

std::string show_parameters(Input& in) {
  std::string text;
  for (const std::string& name : parameter_names()) {
    text += fmt::format("  {:<20} {}\n", name,
                        show_parameter(in.state.sampling, in.backend.defaults(), name));
  }
  return text +
         "change one with /set NAME VALUE, e.g. /set temperature 0.7; /set NAME default takes it "
         "back\n";
}

std::string set(Input& in) {
  const size_t space = in.argument.find_first_of(" \t=");
  if (in.argument.empty()) return show_parameters(in);
  const std::string name = in.argument.substr(0, space);
  const std::string value =
      space == std::string::npos ? "" : trimmed(in.argument.substr(space + 1));
  if (value.empty()) {
    return fmt::format("  {:<20} {}\n", name,
                       show_parameter(in.state.sampling, in.backend.defaults(), name));
  }
  set_parameter(in.state.sampling, name, value);
  return fmt::format("  {:<20} {}\n", name,
                     show_parameter(in.state.sampling, in.backend.defaults(), name));
}

std::string save(Input& in) {
  if (in.argument.empty()) return "/save needs a file name: /save chat.json\n";
  write_file(in.argument, to_json(in.state, 1) + "\n");
  return fmt::format("saved {} messages to {}; `erne generate --messages` reads it too\n",
                     in.state.messages.size(), in.argument);
}

std::string load(Input& in) {
  if (in.argument.empty()) return "/load needs a file name: /load chat.json\n";
  const Json all = parse_json(read_file(in.argument, kMaxFileBytes), in.argument);
  const Json& list = all.is_object() && all.contains("messages") ? all["messages"] : all;
  if (!list.is_array()) fail(Code::kInvalidArgument, "{} holds no list of messages", in.argument);
  std::string system;
  std::vector<ChatMessage> messages;
  for (const Json& message : list) {
    const bool strings = message.is_object() && message.contains("role") &&
                         message["role"].is_string() && message.contains("content") &&
                         message["content"].is_string();
    if (!strings) {
      fail(Code::kInvalidArgument, "{}: message {} needs \"role\" and \"content\" texts",
           in.argument, messages.size());
    }
    const auto role = message["role"].get<std::string>();
    if (role == "system" && messages.empty()) {
      system = message["content"].get<std::string>();
    } else if (role == "user" || role == "assistant") {
      messages.push_back({role, message["content"].get<std::string>()});
    } else {
      fail(Code::kInvalidArgument,
           "{}: message {} has the role \"{}\"; use user or assistant, and system first",
           in.argument, messages.size(), role);
    }
  }
  in.state.system = std::move(system);
  in.state.messages = std::move(messages);
  return fmt::format("loaded {} messages from {}\n", in.state.messages.size(), in.argument);
}

std::string show_stats(Input& in) {
  const ChatState& s = in.state;
  std::string text = fmt::format("  messages             {}\n", s.messages.size());
  if (s.last) {
    const int used = s.last->prompt_tokens + s.last->completion_tokens;
    const int64_t context = in.backend.context_length();
    text += context > 0 ? fmt::format("  context              {} of {} tokens\n", used, context)
                        : fmt::format("  context              {} tokens\n", used);
    text += fmt::format("  last answer          {}\n", describe(*s.last));
  }
  text += fmt::format("  answers so far       {}: {} tokens in {:.1f} s\n", s.num_answers,
                      s.completion_tokens, s.answer_s);
  text += fmt::format("  prompt tokens        {}, {} of them cached\n", s.prompt_tokens,
                      s.cached_tokens);
  return text;
}

std::string show_help(Input& in);

struct Command {
  std::string_view name, argument, help;
  std::string (*run)(Input&);  ///< null: leaves
};

constexpr std::array<Command, 10> kCommands = {{
    {"/help", "", "this list", &show_help},
    {"/system", "[TEXT]", "show or set the system prompt (none removes it)", &show_system},
    {"/reset", "", "forget the conversation", &reset},
    {"/params", "", "show the sampling parameters", &show_parameters},
    {"/set", "NAME VALUE", "change one, e.g. /set temperature 0.7", &set},
    {"/save", "FILE", "write the conversation as JSON", &save},
    {"/load", "FILE", "go on with a saved conversation", &load},
    {"/stats", "", "tokens, cache hits and speed", &show_stats},
    {"/quit", "", "leave (also Ctrl-D)", nullptr},
    {"/exit", "", "leave", nullptr},
}};

std::string show_help(Input&) {
  std::string text;
  for (const Command& command : kCommands) {
    if (command.name == "/exit") continue;
    text += fmt::format("  {:<20} {}\n", fmt::format("{} {}", command.name, command.argument),
                        command.help);
  }
  return text +
         "A line that ends with \\ goes on; \"\"\" opens and closes a longer text. Ctrl-C stops an "
         "answer.\n"
         "A message that begins with / is sent with a space before it.\n";
}

// The command that shares the longest beginning with what was typed.
std::string nearest(std::string_view word) {
  std::string_view best;
  size_t best_length = 1;
  for (const Command& command : kCommands) {
    const auto [typed, known] =
        std::mismatch(word.begin(), word.end(), command.name.begin(), command.name.end());
    const auto same = static_cast<size_t>(typed - word.begin());
    if (same > best_length) {
      best = command.name;
      best_length = same;
    }
  }
  return std::string(best);
}

}  // namespace

std::string to_json(const ChatState& state, int indent) {
  OrderedJson messages = OrderedJson::array();
  if (!state.system.empty()) messages.push_back({{"role", "system"}, {"content", state.system}});
  for (const ChatMessage& message : state.messages) {
    messages.push_back({{"role", message.role}, {"content", message.content}});
  }
  return messages.dump(indent, ' ', false, OrderedJson::error_handler_t::replace);
}

CommandResult run_command(const std::string& line, ChatState& state, const ChatBackend& backend) {
  const size_t space = line.find_first_of(" \t\n");
  const std::string word = line.substr(0, space);
  Input input{state, backend, space == std::string::npos ? "" : trimmed(line.substr(space))};
  for (const Command& command : kCommands) {
    if (command.name != word) continue;
    if (command.run == nullptr) return {.text = "", .quit = true};
    try {
      return {.text = command.run(input), .quit = false};
    } catch (const Error& e) {
      return {.text = std::string(e.what()) + "\n", .quit = false};
    }
  }
  const std::string guess = nearest(word);
  return {.text = fmt::format("unknown command {}{}; /help lists all\n", word,
                              guess.empty() ? "" : fmt::format(", did you mean {}?", guess)),
          .quit = false};
}

std::string describe(const AnswerStats& stats) {
  // Speed of decoding: the first token belongs to the prompt.
  const double decode_s = stats.total_s - stats.first_s;
  std::string text = fmt::format("{} tokens", stats.completion_tokens);
  if (stats.completion_tokens > 1 && decode_s > 0)
    text += fmt::format(", {:.1f} tokens/s", (stats.completion_tokens - 1) / decode_s);
  text += fmt::format(" | prompt {} ({} cached) | first after {:.2f} s", stats.prompt_tokens,
                      stats.cached_tokens, stats.first_s);
  if (stats.finish_reason == "length") text += " | stopped by length";
  if (stats.finish_reason == "interrupted") text += " | interrupted";
  return text;
}

}  // namespace erne::cli
