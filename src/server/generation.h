// One generating HTTP request, from admission to its last byte: submits to the engine, turns
// outputs into the API's bytes on a text thread, and cancels in the engine when the client goes.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/request.h"
#include "server/service.h"

namespace erne::server {

/// How an API words outputs. Calls never overlap; `prompt` is the index in
/// GenerationPlan::requests.
class AnswerFormat {
 public:
  virtual ~AnswerFormat() = default;
  /// Streaming: appends the events of one output.
  virtual void stream(size_t prompt, const Output& output, std::string& events) = 0;
  /// Streaming: appends what follows the last choice, without [DONE].
  virtual void stream_end(std::string& events) = 0;
  /// Not streaming: keeps the output for whole().
  virtual void add(size_t prompt, Output output) = 0;
  /// Not streaming: the body, once every choice has finished.
  virtual std::string whole() = 0;
};

struct GenerationPlan {
  std::string rid;                ///< what the client knows the request by
  std::vector<Request> requests;  ///< one per prompt; their ids are made here
  bool stream = false;
  std::unique_ptr<AnswerFormat> format;
  std::chrono::steady_clock::time_point received;
};

/// Admits all prompts or none, then answers through `responder`. Throws Error if the engine
/// refuses.
void start_generation(Service& service, GenerationPlan plan,
                      std::shared_ptr<HttpResponder> responder);

/// Tokens of all prompts and choices, from their outputs.
class UsageCount {
 public:
  UsageCount(size_t prompts, int choices_each)
      : completion_(prompts * static_cast<size_t>(choices_each)),
        prompt_(prompts),
        cached_(prompts),
        choices_(choices_each) {}
  void add(size_t prompt, const Output& output);
  int prompt_tokens() const;
  int completion_tokens() const;
  int cached_tokens() const;

 private:
  std::vector<int> completion_, prompt_, cached_;
  int choices_;
};

/// An SSE event: "data: " + one line + blank line.
void append_event(std::string& events, const std::string& data);

}  // namespace erne::server
