// A Unicode regular expression over valid UTF-8 (PCRE2 with UTF and UCP, JIT where the CPU has
// one).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/text_range.h"

namespace erne {

class Regex {
 public:
  /// Throws Error{kInvalidArgument} with the position for a pattern that does not compile.
  explicit Regex(std::string_view pattern);
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;
  ~Regex();

  /// Finds matches in one text; one per thread and text.
  class Matcher {
   public:
    /// `text` must be valid UTF-8 (not checked) and outlive the matcher.
    Matcher(const Regex& regex, std::string_view text);
    Matcher(const Matcher&) = delete;
    Matcher& operator=(const Matcher&) = delete;
    ~Matcher();
    /// The leftmost match that begins at or after `from`; may be empty. Throws
    /// Error{kInvalidArgument} when the match limit is reached (a pattern that backtracks without
    /// end on this text).
    std::optional<ByteRange> find(size_t from);

   private:
    struct State;
    const Regex& regex_;
    std::string_view text_;
    std::unique_ptr<State> state_;
  };

 private:
  struct Program;
  std::string pattern_;
  std::unique_ptr<Program> program_;
};

}  // namespace erne
