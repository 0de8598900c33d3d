// What goes into the engine and what comes out: plain data, no JSON, no HTTP.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace erne {

/// Order of application: spec serving.md 4.5. Ranges are checked by Engine::submit.
struct SamplingParams {
  double temperature = 1.0;  ///< < 1e-6 means greedy
  double top_p = 1.0;        ///< (0, 1]
  int top_k = -1;            ///< -1 off, else >= 1
  double min_p = 0.0;        ///< [0, 1]
  double repetition_penalty = 1.0;
  double frequency_penalty = 0.0;
  double presence_penalty = 0.0;
  std::optional<uint64_t> seed;  ///< absent: fresh per request
  std::vector<std::pair<int32_t, float>> logit_bias;
};

struct Request {
  std::string id;  ///< unique among live requests; empty: the engine makes one
  std::vector<int32_t> prompt_ids;
  SamplingParams sampling;
  int n = 1;                          ///< choices, sharing the prompt's KV
  std::optional<int> max_new_tokens;  ///< absent: the rest of the context
  int min_new_tokens = 0;
  std::vector<std::string> stop;
  std::vector<int32_t> stop_token_ids;
  bool ignore_eos = false;
  bool no_stop_trim = false;
  bool skip_special_tokens = true;
  bool logprobs = false;
  int top_logprobs = 0;
  bool prompt_logprobs = false;  ///< for echo: logprobs of the prompt tokens too
  std::string cache_salt;        ///< requests share KV only with equal salts
  int priority = 0;
  int stream_interval = 1;  ///< tokens between outputs
  /// Not counted in the totals of EngineStats, its keys and values not kept in the prefix cache:
  /// for health probes and warm-up.
  bool hidden = false;
};

enum class FinishReason { kStop, kLength, kAbort, kError };

struct Finish {
  FinishReason reason = FinishReason::kStop;
  /// What stopped it: a token id, a stop string, or nothing.
  std::variant<std::monostate, int32_t, std::string> matched;
  std::string message;  ///< for kAbort and kError
};

struct TokenLogprob {
  int32_t id = 0;
  float logprob = 0;                           ///< log-softmax of the raw logits, floor -9999
  std::vector<std::pair<int32_t, float>> top;  ///< best first
};

struct Usage {
  int prompt_tokens = 0;
  int completion_tokens = 0;  ///< of this choice so far, the stop token included
  int cached_tokens = 0;
};

/// A piece of one choice. Concatenated `text` of a choice is its whole text.
struct Output {
  int choice = 0;
  std::string text;  ///< released now; never half a character, never part of a stop string
  std::vector<int32_t> token_ids;      ///< sampled since the last output
  std::vector<TokenLogprob> logprobs;  ///< of the tokens whose text is released now, in order
  std::vector<TokenLogprob>
      prompt_logprobs;  ///< in choice 0's first output only; entry 0 has no logprob (0)
  Usage usage;
  std::optional<Finish> finish;  ///< set on the last output of the choice
  int num_retractions = 0;
  double queue_s = 0;  ///< time spent waiting before the first schedule
};

/// Receives outputs. Called on the engine thread: must be quick and must not throw or block.
class OutputSink {
 public:
  virtual ~OutputSink() = default;
  virtual void on_output(Output output) = 0;
};

}  // namespace erne
