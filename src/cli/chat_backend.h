// Who answers in `erne chat`: the engine in this process, or a server that speaks the OpenAI chat
// API.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "cli/engine_flags.h"
#include "cli/sampling_flags.h"

namespace erne::cli {

struct AnswerStats {
  int prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0;
  double first_s = 0;  ///< from the question to the first text
  double total_s = 0;
  std::string finish_reason;  ///< "stop", "length", "interrupted"
};

struct ChatAnswer {
  std::string text;
  AnswerStats stats;
};

enum class TextKind { kAnswer, kThinking };

class ChatBackend {
 public:
  virtual ~ChatBackend() = default;
  /// One line for the banner: model, type, context.
  virtual std::string describe() const = 0;
  /// Null where a server keeps the defaults.
  virtual const GenerationConfig* defaults() const = 0;
  /// Tokens that prompt and answer may have together; 0: unknown.
  virtual int64_t context_length() const = 0;

  using OnText = std::function<void(TextKind kind, const std::string& text)>;
  /// Answers a JSON array of messages; text is handed out as it comes. Returns early, with what
  /// there is, when InterruptGuard::interrupted(). Throws Error when the question cannot be
  /// answered.
  virtual ChatAnswer answer(const std::string& messages, const SamplingFlags& sampling,
                            const OnText& on_text) = 0;
};

/// Loads the model. `kwargs`: a JSON object for the chat template, or empty.
std::unique_ptr<ChatBackend> make_local_backend(const EngineFlags& flags,
                                                const std::string& kwargs);

/// Talks to `base_url` ("http://127.0.0.1:30000"); `model` empty takes the server's first. Throws
/// Error{kIo} when nobody answers there.
std::unique_ptr<ChatBackend> make_remote_backend(std::string base_url, std::string model,
                                                 const std::string& kwargs);

}  // namespace erne::cli
