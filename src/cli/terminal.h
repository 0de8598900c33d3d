// What the terminal verbs need to know about their streams: is it a terminal, may it be coloured,
// is a text safe to show.
#pragma once

#include <cstdio>
#include <string>
#include <string_view>

namespace erne::cli {

bool is_terminal(std::FILE* stream);

/// Wraps text in "dim" codes if `stream` is a terminal that shows colours (NO_COLOR and TERM=dumb
/// are honoured).
std::string dim(std::string_view text, std::FILE* stream);

/// For a terminal: control characters other than line feed and tab become visible ("^[" for
/// escape), so that generated text cannot move the cursor or retitle the window. Expects valid
/// UTF-8.
std::string visible(std::string_view text);

/// All of stdin. Throws Error{kInvalidArgument} above 64 MiB.
std::string read_stdin();

/// Writes and flushes; throws Error{kIo} when stdout is closed or full.
void write_stdout(std::string_view text);

}  // namespace erne::cli
