// What a user hands to `erne generate`, read and checked before the model is loaded.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace erne {
class ChatTemplate;
class Tokenizer;
}  // namespace erne

namespace erne::cli {

struct RawText {
  std::string text;
};
struct Conversation {
  std::string messages;  ///< a JSON array of messages
};
struct TokenIds {
  std::vector<int32_t> ids;
};
using PromptInput = std::variant<RawText, Conversation, TokenIds>;

/// Throws Error{kInvalidArgument} beginning with `where` unless it is a list of messages, each with
/// a role.
void check_messages(const nlohmann::ordered_json& messages, const std::string& where);

/// Every line that is not blank, with "PATH line N".
void each_line(const std::string& text, const std::string& path,
               const std::function<void(std::string_view line, const std::string& where)>& read);

/// A JSON file, or JSON lines: an array of messages, {"messages": […]}, or a list of either. Throws
/// Error{kInvalidArgument} naming file and line.
std::vector<PromptInput> read_messages(const std::string& path);

/// "1,2,3", or a file with a JSON array of ids or {"input_ids": […]} (also "prompt_ids") on each
/// line.
std::vector<PromptInput> read_input_ids(const std::string& ids_or_path);

/// Token ids of one prompt. `chat_template` may be null unless `input` is a Conversation; `kwargs`
/// is a JSON object for it, or empty. BOS is added to raw text only, and only where the tokenizer's
/// files ask for it.
std::vector<int32_t> to_ids(const PromptInput& input, const Tokenizer& tokenizer,
                            const ChatTemplate* chat_template, const std::string& kwargs);

}  // namespace erne::cli
