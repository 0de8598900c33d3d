#include "cli/terminal.h"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/error.h"

namespace erne::cli {

bool is_terminal(std::FILE* stream) { return isatty(fileno(stream)) == 1; }

std::string dim(std::string_view text, std::FILE* stream) {
  const char* no_color = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  const bool plain = !is_terminal(stream) || (no_color != nullptr && *no_color != 0) ||
                     term == nullptr || std::strcmp(term, "dumb") == 0;
  return plain ? std::string(text) : "\033[2m" + std::string(text) + "\033[0m";
}

std::string visible(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    // U+0080 to U+009F: the second set of control characters, C2 80 to C2 9F in UTF-8.
    const bool c1 =
        byte == 0xC2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xA0;
    if (c1) {
      out += "\xEF\xBF\xBD";
      ++i;
    } else if ((byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7F) {
      out += '^';
      out += static_cast<char>(byte ^ 0x40);
    } else {
      out += text[i];
    }
  }
  return out;
}

std::string read_stdin() {
  constexpr size_t kMaxBytes = size_t{64} << 20;
  std::string text;
  std::array<char, 65536> buffer;
  while (const size_t got = std::fread(buffer.data(), 1, buffer.size(), stdin)) {
    text.append(buffer.data(), got);
    if (text.size() > kMaxBytes)
      fail(Code::kInvalidArgument, "standard input is longer than {} MiB", kMaxBytes >> 20);
  }
  if (std::ferror(stdin) != 0)
    fail(Code::kIo, "cannot read standard input: {}", std::strerror(errno));
  return text;
}

void write_stdout(std::string_view text) {
  const bool whole = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  if (!whole || std::fflush(stdout) != 0)
    fail(Code::kIo, "cannot write to standard output: {}", std::strerror(errno));
}

}  // namespace erne::cli
