// Cuts normalized text into the words that BPE works on, as the pre_tokenizer of a tokenizer.json
// describes.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "token/regex.h"

namespace erne {

class PreTokenizer {
 public:
  enum class Behaviour { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };
  enum class Prepend { kNever, kFirst, kAlways };

  struct Digits {
    bool individual = false;
  };
  struct Split {
    std::variant<std::string, Regex> pattern;
    Behaviour behaviour = Behaviour::kIsolated;
    bool invert = false;
  };
  /// Splits at GPT-2's pattern if use_regex. The words come out as raw bytes; the model maps them.
  struct ByteLevel {
    bool add_prefix_space = false;
    bool use_regex = true;
  };
  struct Metaspace {
    std::string replacement = "\u2581";
    Prepend prepend = Prepend::kAlways;
    bool split = true;
  };
  using Step = std::variant<Digits, Split, ByteLevel, Metaspace>;
  using Sink = std::function<void(std::string_view word)>;

  /// Steps run in the order of adding, each on the pieces of the one before.
  void add(Step step) { steps_.push_back(std::move(step)); }
  /// Whether the words are to be read as bytes.
  bool byte_level() const;

  /// Calls `sink` for every word of `text` (valid UTF-8), in order; words are not empty and live
  /// only during the call. at_start: `text` begins the whole input. Throws Error{kInvalidArgument}
  /// if a pattern gives up on the text.
  void split(std::string_view text, bool at_start, const Sink& sink) const {
    run(0, text, at_start, sink);
  }

 private:
  void run(size_t step, std::string_view text, bool at_start, const Sink& sink) const;
  std::vector<Step> steps_;
};

/// The pattern that ByteLevel splits at, as a regular expression.
extern const char* const kGpt2Pattern;
/// Length of the match of kGpt2Pattern at the beginning of `text` (valid UTF-8, not empty); it
/// matches everywhere.
size_t gpt2_match(std::string_view text);

}  // namespace erne
