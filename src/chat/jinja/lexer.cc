#include "chat/jinja/lexer.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <optional>

#include "base/error.h"
#include "base/utf8.h"
#include "chat/jinja/unicode.h"

namespace erne::jinja {
namespace {

bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name(char c) { return is_name_start(c) || is_digit(c); }

// "\r\n" and "\r" become "\n"; one newline at the very end goes.
std::string normalize(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out.push_back(source[i]);
      continue;
    }
    out.push_back('\n');
    if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

class Lexer {
 public:
  Lexer(std::string_view source, std::string_view name) : source_(normalize(source)), name_(name) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) lex_data();
    add(TokenKind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  struct RawTag {
    size_t end;
  };

  [[noreturn]] void fail(std::string_view message) const {
    erne::fail(Code::kInvalidArgument, "{}, line {}: {}", name_, line_, message);
  }
  bool starts(size_t at, std::string_view text) const {
    return source_.compare(at, text.size(), text) == 0;
  }
  char peek(size_t at) const { return at < source_.size() ? source_[at] : '\0'; }
  void add(TokenKind kind, std::string text) { tokens_.push_back({kind, std::move(text), line_}); }
  void advance(size_t to) {
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(at_),
                                         source_.begin() + static_cast<std::ptrdiff_t>(to), '\n'));
    at_ = to;
  }
  size_t skip_space(size_t at) const {
    while (at < source_.size()) {
      const utf8::Decoded c = utf8::decode(source_, at);
      if (!unicode::is_space(c.codepoint)) break;
      at += static_cast<size_t>(c.size);
    }
    return at;
  }

  void lex_data();
  void add_data(size_t end, char sign, bool variable);
  std::optional<RawTag> raw_tag(size_t at, std::string_view word) const;
  void lex_raw(size_t begin);
  void lex_comment(size_t begin);
  void lex_tag(bool variable);
  std::optional<size_t> tag_end(bool variable) const;
  void lex_number();
  void lex_based_integer(int base);
  void lex_string();
  void append_escape(std::string& out, size_t& at) const;
  void append_code(std::string& out, size_t& at, size_t digits) const;
  void lex_operator();

  std::string source_;
  std::string_view name_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;  ///< what precedes at_ ended in a newline
  std::string open_;           ///< closing brackets still expected, innermost last
  std::vector<Token> tokens_;
};

// Text up to `end`, where a tag with this sign begins: "-" takes all white space before it, a block
// tag without "+" takes the blanks between it and the start of its line.
void Lexer::add_data(size_t end, char sign, bool variable) {
  std::string_view text = std::string_view(source_).substr(at_, end - at_);
  if (sign == '-') {
    text = text.substr(0, unicode::strip(text, false, true).end);
  } else if (sign != '+' && !variable) {
    const size_t newline = text.rfind('\n');
    const size_t line_begin = newline == std::string_view::npos ? 0 : newline + 1;
    if (line_begin > 0 || line_starting_) {
      const unicode::Span rest = unicode::strip(text.substr(line_begin), true, false);
      if (rest.begin == rest.end) text = text.substr(0, line_begin);
    }
  }
  if (!text.empty()) add(TokenKind::kData, std::string(text));
  advance(end);
}

// "{%- raw %}" at `at`; its end, white space that "-%}" takes included.
std::optional<Lexer::RawTag> Lexer::raw_tag(size_t at, std::string_view word) const {
  size_t i = at + 2;
  if (peek(i) == '-' || peek(i) == '+') ++i;
  i = skip_space(i);
  if (!starts(i, word)) return std::nullopt;
  i = skip_space(i + word.size());
  if (starts(i, "-%}")) return RawTag{skip_space(i + 3)};
  const bool closing = word == "endraw";
  if (closing && starts(i, "+%}")) return RawTag{i + 3};
  if (!starts(i, "%}")) return std::nullopt;
  i += 2;
  return RawTag{closing && peek(i) == '\n' ? i + 1 : i};
}

void Lexer::lex_data() {
  size_t begin = at_;
  for (;; ++begin) {
    begin = source_.find('{', begin);
    if (begin == std::string::npos) {
      add(TokenKind::kData, source_.substr(at_));
      advance(source_.size());
      return;
    }
    const char next = peek(begin + 1);
    if (next == '%' || next == '{' || next == '#') break;
  }
  const char kind = source_[begin + 1];
  const char sign = peek(begin + 2);
  const bool has_sign = sign == '-' || sign == '+';
  add_data(begin, has_sign ? sign : '\0', kind == '{');
  if (kind == '%') {
    if (const auto raw = raw_tag(begin, "raw")) {
      lex_raw(raw->end);
      return;
    }
  }
  if (kind == '#') {
    lex_comment(begin + (has_sign ? 3 : 2));
    return;
  }
  add(kind == '{' ? TokenKind::kVariableBegin : TokenKind::kBlockBegin, source_.substr(begin, 2));
  advance(begin + (has_sign ? 3 : 2));
  lex_tag(kind == '{');
}

void Lexer::lex_raw(size_t begin) {
  line_starting_ = source_[begin - 1] == '\n';
  advance(begin);
  for (size_t i = begin; (i = source_.find("{%", i)) != std::string::npos; ++i) {
    const auto end = raw_tag(i, "endraw");
    if (!end) continue;
    const char sign = peek(i + 2);
    add_data(i, sign == '-' || sign == '+' ? sign : '\0', false);
    advance(end->end);
    line_starting_ = source_[end->end - 1] == '\n';
    return;
  }
  // Nothing behind the tag: Jinja takes it for an empty block.
  if (begin < source_.size()) fail("missing end of raw directive");
}

void Lexer::lex_comment(size_t begin) {
  const size_t close = source_.find("#}", begin);
  if (close == std::string::npos) {
    if (begin < source_.size()) fail("missing end of comment tag");
    advance(begin);  // nothing behind the tag: Jinja takes it for an empty comment
    return;
  }
  size_t end = close + 2;
  const char sign = close > begin ? source_[close - 1] : '\0';
  if (sign == '-') {
    end = skip_space(end);
  } else if (sign != '+' && peek(end) == '\n') {
    ++end;
  }
  advance(end);
  line_starting_ = source_[end - 1] == '\n';
}

// Where the tag ends if it ends here, white space that the end takes included.
std::optional<size_t> Lexer::tag_end(bool variable) const {
  const std::string_view close = variable ? "}}" : "%}";
  if (starts(at_, close)) {
    const size_t end = at_ + 2;
    return !variable && peek(end) == '\n' ? end + 1 : end;
  }
  if (peek(at_) == '-' && starts(at_ + 1, close)) return skip_space(at_ + 3);
  if (!variable && peek(at_) == '+' && starts(at_ + 1, close)) return at_ + 3;
  return std::nullopt;
}

void Lexer::lex_tag(bool variable) {
  open_.clear();
  for (;;) {
    if (open_.empty()) {
      if (const auto end = tag_end(variable)) {
        add(variable ? TokenKind::kVariableEnd : TokenKind::kBlockEnd, variable ? "}}" : "%}");
        advance(*end);
        line_starting_ = source_[*end - 1] == '\n';
        return;
      }
    }
    if (at_ >= source_.size()) fail("unexpected end of template inside a tag");
    const char c = source_[at_];
    if (const size_t after = skip_space(at_); after > at_) {
      advance(after);
    } else if (is_digit(c)) {
      lex_number();
    } else if (is_name_start(c)) {
      size_t end = at_;
      while (end < source_.size() && is_name(source_[end])) ++end;
      add(TokenKind::kName, source_.substr(at_, end - at_));
      advance(end);
    } else if (c == '\'' || c == '"') {
      lex_string();
    } else {
      lex_operator();
    }
  }
}

void Lexer::lex_based_integer(int base) {
  size_t end = at_ + 2;
  while (is_name(peek(end))) ++end;
  std::string digits = source_.substr(at_ + 2, end - at_ - 2);
  std::erase(digits, '_');
  add(TokenKind::kInteger, source_.substr(at_, end - at_));
  const auto result =
      std::from_chars(digits.data(), digits.data() + digits.size(), tokens_.back().integer, base);
  if (result.ec != std::errc{} || result.ptr != digits.data() + digits.size() || digits.empty()) {
    fail(fmt::format("invalid number '{}'", tokens_.back().text));
  }
  advance(end);
}

void Lexer::lex_number() {
  const char mark = static_cast<char>(peek(at_ + 1) | 0x20);
  if (source_[at_] == '0' && (mark == 'x' || mark == 'o' || mark == 'b')) {
    lex_based_integer(mark == 'x' ? 16 : mark == 'o' ? 8 : 2);
    return;
  }
  const auto digits = [&](size_t at) {
    while (is_digit(peek(at)) || (peek(at) == '_' && is_digit(peek(at + 1)))) ++at;
    return at;
  };
  size_t end = digits(at_);
  bool real = false;
  // "x.0.1" are two subscripts: after a dot there is no fraction.
  const bool after_dot =
      !tokens_.empty() && tokens_.back().kind == TokenKind::kOperator && tokens_.back().text == ".";
  if (!after_dot && peek(end) == '.' && is_digit(peek(end + 1))) {
    end = digits(end + 1);
    real = true;
  }
  if (!after_dot && (peek(end) | 0x20) == 'e') {
    const size_t sign = peek(end + 1) == '+' || peek(end + 1) == '-' ? 1 : 0;
    if (is_digit(peek(end + 1 + sign))) {
      end = digits(end + 1 + sign);
      real = true;
    }
  }
  std::string text = source_.substr(at_, end - at_);
  std::erase(text, '_');
  add(real ? TokenKind::kFloat : TokenKind::kInteger, text);
  Token& token = tokens_.back();
  if (real) {
    token.real = std::strtod(text.c_str(), nullptr);
  } else if (std::from_chars(text.data(), text.data() + text.size(), token.integer).ec !=
             std::errc{}) {
    fail(fmt::format("number '{}' does not fit into 64 bits", text));
  }
  advance(end);
}

void Lexer::append_code(std::string& out, size_t& at, size_t digits) const {
  uint32_t code = 0;
  const std::string_view text = std::string_view(source_).substr(at, digits);
  const auto result = std::from_chars(text.data(), text.data() + text.size(), code, 16);
  const bool scalar = code <= 0x10FFFF && !(code >= 0xD800 && code <= 0xDFFF);
  if (text.size() != digits || result.ptr != text.data() + digits || !scalar)
    fail("invalid escape in a string");
  utf8::append(out, code);
  at += digits;
}

// One escape as Python's unicode-escape codec reads it; `at` is behind the backslash.
void Lexer::append_escape(std::string& out, size_t& at) const {
  const char c = source_[at++];
  constexpr std::string_view kLetters = "abfnrtv\\'\"";
  constexpr std::string_view kMeanings = "\a\b\f\n\r\t\v\\'\"";
  if (const size_t letter = kLetters.find(c); letter != std::string_view::npos) {
    out.push_back(kMeanings[letter]);
  } else if (c == 'x') {
    append_code(out, at, 2);
  } else if (c == 'u') {
    append_code(out, at, 4);
  } else if (c == 'U') {
    append_code(out, at, 8);
  } else if (c >= '0' && c <= '7') {
    uint32_t code = static_cast<uint32_t>(c - '0');
    for (int i = 0; i < 2 && peek(at) >= '0' && peek(at) <= '7'; ++i) {
      code = code * 8 + static_cast<uint32_t>(source_[at++] - '0');
    }
    utf8::append(out, code);
  } else if (c == 'N') {
    fail("character names (\\N{...}) in strings are not supported");
  } else if (c != '\n') {  // backslash newline continues the string
    out.push_back('\\');
    out.push_back(c);
  }
}

void Lexer::lex_string() {
  const char quote = source_[at_];
  std::string text;
  size_t i = at_ + 1;
  while (i < source_.size() && source_[i] != quote) {
    if (source_[i] != '\\') {
      text.push_back(source_[i++]);
      continue;
    }
    ++i;
    if (i < source_.size()) append_escape(text, i);
  }
  if (i >= source_.size()) fail("missing end of string");
  add(TokenKind::kString, std::move(text));
  advance(i + 1);
}

void Lexer::lex_operator() {
  constexpr std::string_view kDouble[] = {"**", "//", "==", "!=", ">=", "<="};
  constexpr std::string_view kSingle = "+-/*%~[](){}><=.:|,;";
  for (const std::string_view op : kDouble) {
    if (!starts(at_, op)) continue;
    add(TokenKind::kOperator, std::string(op));
    advance(at_ + 2);
    return;
  }
  const char c = source_[at_];
  if (kSingle.find(c) == std::string_view::npos) fail(fmt::format("unexpected character '{}'", c));
  if (c == '(') open_.push_back(')');
  if (c == '[') open_.push_back(']');
  if (c == '{') open_.push_back('}');
  if (c == ')' || c == ']' || c == '}') {
    if (open_.empty()) fail(fmt::format("unexpected '{}'", c));
    if (open_.back() != c) fail(fmt::format("unexpected '{}', expected '{}'", c, open_.back()));
    open_.pop_back();
  }
  add(TokenKind::kOperator, std::string(1, c));
  advance(at_ + 1);
}

}  // namespace

std::vector<Token> tokenize(std::string_view source, std::string_view name) {
  return Lexer(source, name).run();
}

std::string describe(const Token& token) {
  switch (token.kind) {
    case TokenKind::kData:
      return "template text";
    case TokenKind::kVariableEnd:
    case TokenKind::kBlockEnd:
      return fmt::format("'{}' (end of tag)", token.text);
    case TokenKind::kString:
      return "a string";
    case TokenKind::kEnd:
      return "end of template";
    default:
      return fmt::format("'{}'", token.text);
  }
}

}  // namespace erne::jinja
