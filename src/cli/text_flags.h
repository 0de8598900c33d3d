// The text that eval and verify score: its flags, its file, its tokens and its windows.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/text_windows.h"
#include "model/window_run.h"

namespace CLI {
class App;
}

namespace erne {
class TextModel;
class Tokenizer;
}  // namespace erne

namespace erne::cli {

struct TextFlags {
  std::string text;
  std::optional<int64_t> window;
  std::optional<int64_t> stride;
  std::optional<int64_t> max_tokens;
};

/// Throws Error{kInvalidArgument} beginning with `what` for a text that is empty, not UTF-8, or has
/// zero bytes.
void check_text(std::string_view text, std::string_view what);

/// Adds --text, --window, --stride and --max-tokens in the group "Text". `flags` must outlive the
/// parse.
void add_text_flags(CLI::App& app, TextFlags& flags);

/// The tokens of the file, at most --max-tokens; begins with BOS where the tokenizer's own files
/// ask for it. Names of special tokens in the file are plain text. Throws Error{kInvalidArgument}
/// for a file that is empty, not UTF-8, or has zero bytes; Error{kNotFound, kIo} for one that
/// cannot be read.
std::vector<int32_t> read_text_ids(const TextFlags& flags, const Tokenizer& tokenizer);

/// Window and stride as typed, or what the method takes by itself: kSliding min(2048, context) and
/// half of it, kSecondHalf min(512, context). Throws Error{kInvalidArgument} naming the flag.
WindowOptions to_window_options(const TextFlags& flags, WindowMethod method, int64_t context);

/// Throws Error{kOutOfMemory} with both figures where `models` models of this shape cannot run the
/// windows in free memory.
void check_run_fits(const std::vector<const TextModel*>& models, Device& device,
                    const TextWindows& text, const WindowRunOptions& options);

}  // namespace erne::cli
