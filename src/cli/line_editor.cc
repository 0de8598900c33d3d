#include "cli/line_editor.h"

#include <histedit.h>
#include <poll.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <clocale>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cwchar>

#include "base/error.h"
#include "base/log.h"
#include "cli/terminal.h"

namespace erne::cli {
namespace {

constexpr int kHistoryLines = 1000;

volatile std::sig_atomic_t g_interrupted = 0;
volatile std::sig_atomic_t g_resized = 0;

void on_interrupt(int) { g_interrupted = 1; }
void on_resize(int) { g_resized = 1; }

// Without SA_RESTART: a waiting poll() must come back.
void set_handler(int signal, void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  sigemptyset(&action.sa_mask);
  sigaction(signal, &action, nullptr);
}

// Wide characters need a UTF-8 locale; a bare container has none set but always has C.UTF-8.
void use_utf8_locale() {
  const char* current = std::setlocale(LC_CTYPE, "");
  const bool utf8 = current != nullptr && (std::strstr(current, "UTF-8") != nullptr ||
                                           std::strstr(current, "utf8") != nullptr);
  if (!utf8) std::setlocale(LC_CTYPE, "C.UTF-8");
}

}  // namespace

InterruptGuard::InterruptGuard() {
  g_interrupted = 0;
  set_handler(SIGINT, &on_interrupt);
  set_handler(SIGWINCH, &on_resize);
}

InterruptGuard::~InterruptGuard() {
  set_handler(SIGINT, SIG_DFL);
  set_handler(SIGWINCH, SIG_DFL);
}

bool InterruptGuard::interrupted() { return g_interrupted != 0; }
void InterruptGuard::clear() { g_interrupted = 0; }

struct EchoOff::State {
  termios before{};
};

EchoOff::EchoOff() : state_(std::make_unique<State>()) {
  if (tcgetattr(STDIN_FILENO, &state_->before) != 0) {
    state_.reset();
    return;
  }
  termios quiet = state_->before;
  quiet.c_lflag &= ~static_cast<tcflag_t>(ECHO);
  tcsetattr(STDIN_FILENO, TCSADRAIN, &quiet);
}

EchoOff::~EchoOff() {
  if (state_) tcsetattr(STDIN_FILENO, TCSADRAIN, &state_->before);
}

struct LineEditor::State {
  EditLine* edit = nullptr;
  History* history = nullptr;
  HistEvent event{};
  std::filesystem::path file;
  std::FILE* screen = nullptr;
  std::string prompt;
  std::string last;
  std::mbstate_t decoding{};
  bool warned = false;

  static char* prompt_of(EditLine* edit);
  static int read_char(EditLine* edit, wchar_t* out);
};

char* LineEditor::State::prompt_of(EditLine* edit) {
  State* state = nullptr;
  el_get(edit, EL_CLIENTDATA, &state);
  return state->prompt.data();
}

// libedit's own reader swallows the first interrupted read; this one gives up at once on Ctrl-C and
// redraws on resize.
int LineEditor::State::read_char(EditLine* edit, wchar_t* out) {
  State* state = nullptr;
  el_get(edit, EL_CLIENTDATA, &state);
  for (;;) {
    if (g_interrupted != 0) return -1;
    if (g_resized != 0) {
      g_resized = 0;
      el_resize(edit);
      // libedit redraws from where the cursor stands: back to the start of the line first.
      std::fputs("\r\033[J", state->screen);
      el_set(edit, EL_REFRESH);
    }
    pollfd waiting{STDIN_FILENO, POLLIN, 0};
    // The time limit covers a signal that arrives between the check above and poll().
    if (poll(&waiting, 1, 200) <= 0) continue;
    char byte = 0;
    const ssize_t got = read(STDIN_FILENO, &byte, 1);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return static_cast<int>(got);
    const size_t used = std::mbrtowc(out, &byte, 1, &state->decoding);
    if (used == static_cast<size_t>(-2)) continue;  // the character goes on
    if (used == static_cast<size_t>(-1)) {
      state->decoding = {};
      *out = static_cast<wchar_t>(0xFFFD);
    }
    return 1;
  }
}

LineEditor::LineEditor(std::filesystem::path history_file) : state_(std::make_unique<State>()) {
  use_utf8_locale();
  state_->file = std::move(history_file);
  // Where stdout is a file, the line is edited on the error stream.
  state_->screen = is_terminal(stdout) ? stdout : stderr;
  state_->edit = el_init("erne", stdin, state_->screen, stderr);
  state_->history = history_init();
  if (state_->edit == nullptr || state_->history == nullptr)
    fail(Code::kIo, "cannot set up line editing on this terminal");
  history(state_->history, &state_->event, H_SETSIZE, kHistoryLines);
  history(state_->history, &state_->event, H_SETUNIQUE, 1);
  if (!state_->file.empty()) history(state_->history, &state_->event, H_LOAD, state_->file.c_str());
  el_set(state_->edit, EL_CLIENTDATA, state_.get());
  el_set(state_->edit, EL_PROMPT, &State::prompt_of);
  el_set(state_->edit, EL_EDITOR, "emacs");
  el_set(state_->edit, EL_SIGNAL, 0);
  el_set(state_->edit, EL_HIST, history, state_->history);
  el_set(state_->edit, EL_GETCFN, &State::read_char);
  // What every shell does: Ctrl-R searches, Home, End, Delete and word jumps work.
  for (const auto& [key, command] : {std::pair{"^R", "em-inc-search-prev"},
                                     {"\\e[H", "ed-move-to-beg"},
                                     {"\\e[F", "ed-move-to-end"},
                                     {"\\e[3~", "ed-delete-next-char"},
                                     {"\\e[1;5C", "em-next-word"},
                                     {"\\e[1;5D", "ed-prev-word"}}) {
    el_set(state_->edit, EL_BIND, key, command, nullptr);
  }
  el_source(state_->edit, nullptr);  // ~/.editrc, if any
}

LineEditor::~LineEditor() {
  history_end(state_->history);
  el_end(state_->edit);
}

Line LineEditor::read_line(const std::string& prompt) {
  state_->prompt = prompt;
  state_->decoding = {};
  int count = 0;
  // libedit shows the prompt first and prepares the terminal with the first key: keys that fall in
  // between would be edited by the terminal itself.
  el_set(state_->edit, EL_PREP_TERM, 1);
  const char* text = el_gets(state_->edit, &count);
  if (InterruptGuard::interrupted()) {
    InterruptGuard::clear();
    const LineInfo* typed = el_line(state_->edit);
    std::string unsent(typed->buffer, typed->lastchar);
    el_reset(state_->edit);
    std::fputs("^C\n", state_->screen);
    return {LineEvent::kInterrupt, std::move(unsent)};
  }
  if (text == nullptr) return {LineEvent::kEnd, ""};
  std::string line(text, static_cast<size_t>(std::max(count, 0)));
  if (line.ends_with('\n')) line.pop_back();
  return {LineEvent::kLine, std::move(line)};
}

void LineEditor::remember(const std::string& text) {
  if (text.empty() || text == state_->last) return;
  state_->last = text;
  history(state_->history, &state_->event, H_ENTER, text.c_str());
  if (state_->file.empty()) return;
  std::error_code error;
  std::filesystem::create_directories(state_->file.parent_path(), error);
  if (history(state_->history, &state_->event, H_SAVE, state_->file.c_str()) >= 0) {
    // What a person asks is nobody else's business.
    std::filesystem::permissions(
        state_->file, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write,
        error);
  } else if (!state_->warned) {
    state_->warned = true;
    log::warn("cannot keep the history in {}: {}", state_->file.string(), std::strerror(errno));
  }
}

std::filesystem::path chat_history_path() {
  const char* state_home = std::getenv("XDG_STATE_HOME");
  if (state_home != nullptr && *state_home == '/')
    return std::filesystem::path(state_home) / "erne/chat_history";
  const char* home = std::getenv("HOME");
  if (home == nullptr || *home == 0) return {};
  return std::filesystem::path(home) / ".local/state/erne/chat_history";
}

}  // namespace erne::cli
