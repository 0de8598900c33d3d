// A checkpoint's chat template: messages to prompt text, with every byte that came from the request
// marked, so that the tokenizer can never turn user text into a special token.
#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "base/text_range.h"

namespace erne {

struct ChatInput {
  const nlohmann::ordered_json* messages = nullptr;  ///< array of {"role", "content", …}
  const nlohmann::ordered_json* tools = nullptr;     ///< array or null
  const nlohmann::ordered_json* kwargs = nullptr;    ///< object: chat_template_kwargs, or null
  bool add_generation_prompt = true;
  bool continue_final_message = false;  ///< the prompt ends inside the last (assistant) message
};

class ChatTemplate {
 public:
  /// Parses a Jinja template. Throws Error{kInvalidArgument} with name and line for bad syntax,
  /// Error{kUnsupported} for a construct outside the subset.
  static std::unique_ptr<ChatTemplate> parse(std::string_view source, std::string_view name);
  /// The one in the folder: chat_template.jinja, chat_template.json, or "chat_template" in
  /// tokenizer_config.json; else the built-in ERNIE one (Thinking if the tokenizer files know
  /// <|im_start|> and <think>). bos/eos token texts are read too.
  static std::unique_ptr<ChatTemplate> load(const std::filesystem::path& folder);

  ChatTemplate(const ChatTemplate&) = delete;
  ChatTemplate& operator=(const ChatTemplate&) = delete;
  ~ChatTemplate();

  /// Throws Error{kInvalidArgument} for raise_exception and run-time template errors, with the
  /// template's line. Bounded in steps and output size. Thread-safe.
  PromptText render(const ChatInput& input) const;
  /// "chat_template.jinja", "tokenizer_config.json", "built-in (ERNIE 4.5)", …
  const std::string& name() const;
  const std::string& source() const;

 private:
  struct State;
  explicit ChatTemplate(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace erne
