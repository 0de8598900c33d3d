// From sampled ids to text that a user may see: incremental decoding, stop strings with hold-back,
// logprobs that ride with their text (spec serving.md 4.1 and 4.4). Concatenated pieces do not
// depend on how often they are taken.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "engine/request.h"
#include "token/tokenizer.h"

namespace erne {

class OutputText {
 public:
  /// tokenizer may be null (ids only); both references outlive this.
  OutputText(const Tokenizer* tokenizer, const Request& request);

  /// Appends a token's text. Returns the stop string that it completed, if any; the text then ends
  /// there. `stops_count`: whether stop strings are matched already (min_new_tokens).
  std::optional<std::string> push(int32_t id, bool stops_count);
  /// Appends a token without text: the one that ended the output.
  void push_silent(int32_t id);
  /// Adds the logprob of the token that was pushed last.
  void add_logprob(TokenLogprob logprob);
  /// Nothing follows: what is held back becomes literal text. Returns the stop string that the last
  /// broken character's replacement completed, if any.
  std::optional<std::string> finish(bool stops_count);
  /// Moves what is certain into `output`: text, token ids, logprobs.
  void take(Output& output);

 private:
  std::optional<std::string> cut_at_stop(size_t first_new);
  size_t held_suffix() const;

  const Tokenizer* tokenizer_;
  const Request* request_;
  std::optional<StreamDecoder> decoder_;
  std::string text_;       // decoded, not released
  uint64_t released_ = 0;  // bytes released so far
  uint64_t last_token_end_ =
      0;  // where the last token's text ends, counted from the start of the output
  bool finished_ = false;
  std::vector<int32_t> ids_;
  struct Waiting {
    TokenLogprob logprob;
    uint64_t end;
  };
  std::deque<Waiting> logprobs_;
};

}  // namespace erne
