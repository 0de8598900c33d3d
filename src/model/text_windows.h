// How a long text is cut into windows that fit a model's context, and which of its tokens each
// window scores.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace erne {

enum class WindowMethod : uint8_t {
  /// Window k holds tokens [k stride, k stride + window), cut at the text's end, and scores those
  /// that no window before it scored: every token but the text's first is predicted exactly once,
  /// from at least window - stride tokens before it (fewer only near the text's beginning). The
  /// sliding window of the transformers documentation.
  kSliding,
  /// Disjoint windows; each scores its last tokens from window/2 + 1 on. What does not fill a
  /// window is left out. As llama.cpp's llama-perplexity.
  kSecondHalf,
};

struct WindowOptions {
  WindowMethod method = WindowMethod::kSliding;
  int64_t window = 2048;  ///< tokens, at least 2 (kSecondHalf: 4)
  int64_t stride = 1024;  ///< kSliding: 1 to window - 1
};

/// Tokens [begin, end) of a text; each of [first_scored, end) is predicted from those before it in
/// the window.
struct Window {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t first_scored = 0;

  int64_t num_scored() const { return end - first_scored; }
  /// The model need not see the last token: nothing is predicted from it.
  int64_t num_inputs() const { return end - begin - 1; }
};

/// A tokenised text with its windows.
struct TextWindows {
  std::vector<int32_t> ids;
  std::vector<Window> windows;
  std::optional<int32_t> window_start;  ///< stands in for the first token of each window

  int64_t num_scored() const;
  int64_t num_inputs() const;
};

/// Throws Error{kInvalidArgument} for options out of range and for a text too short to score a
/// token.
std::vector<Window> cut_windows(int64_t num_tokens, const WindowOptions& options);

}  // namespace erne
