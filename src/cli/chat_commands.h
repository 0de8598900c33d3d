// The state of a terminal conversation and the commands that change it ("/help" lists them).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/chat_backend.h"

namespace erne::cli {

struct ChatMessage {
  std::string role;  ///< "user" or "assistant"
  std::string content;
};

struct ChatState {
  std::string system;
  std::vector<ChatMessage> messages;
  SamplingFlags sampling;
  std::optional<AnswerStats> last;
  int num_answers = 0;
  int64_t prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0;
  double answer_s = 0;
};

/// The conversation as a JSON array, the system message first; `indent` -1 for one line.
std::string to_json(const ChatState& state, int indent = -1);

struct CommandResult {
  std::string text;  ///< to show, ends with a line feed
  bool quit = false;
};

/// `line` begins with '/'. Mistakes come back as text that says what would be right; never throws
/// Error.
CommandResult run_command(const std::string& line, ChatState& state, const ChatBackend& backend);

/// "12 tokens, 34.5 tokens/s · prompt 120 (96 cached) · first after 0.12 s"
std::string describe(const AnswerStats& stats);

}  // namespace erne::cli
