// One line from a person at a terminal: libedit with history, wide characters and Ctrl-C that does
// not end the program.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

namespace erne::cli {

/// While one lives, Ctrl-C sets a flag instead of ending the process. One at a time.
class InterruptGuard {
 public:
  InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;
  ~InterruptGuard();

  /// Whether Ctrl-C came since the last clear().
  static bool interrupted();
  static void clear();
};

/// While one lives, the terminal does not echo: keys pressed during an answer wait for the next
/// line.
class EchoOff {
 public:
  EchoOff();
  EchoOff(const EchoOff&) = delete;
  EchoOff& operator=(const EchoOff&) = delete;
  ~EchoOff();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

enum class LineEvent {
  kLine,       ///< `text` holds it, without the line feed
  kInterrupt,  ///< Ctrl-C; `text` is what had been typed
  kEnd,        ///< Ctrl-D on an empty line, or the terminal is gone
};

struct Line {
  LineEvent event = LineEvent::kEnd;
  std::string text;
};

/// Needs an InterruptGuard while it reads.
class LineEditor {
 public:
  /// `history_file` is read now and rewritten by save_history(); an empty path keeps nothing.
  explicit LineEditor(std::filesystem::path history_file);
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;
  ~LineEditor();

  Line read_line(const std::string& prompt);
  /// Adds to the history (not empty, not the same as the last) and writes the file. A file that
  /// cannot be written is reported once as a warning.
  void remember(const std::string& text);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// $XDG_STATE_HOME/erne/chat_history, else ~/.local/state/erne/chat_history; empty without a home.
std::filesystem::path chat_history_path();

}  // namespace erne::cli
