// Template source to tokens, with Jinja's white space rules as chat templates are run with:
// trim_blocks, lstrip_blocks, one trailing newline dropped. First stage: lexer, parser (ast.h),
// interpreter.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace erne::jinja {

enum class TokenKind {
  kData,           ///< text outside of tags
  kVariableBegin,  ///< {{
  kVariableEnd,
  kBlockBegin,  ///< {%
  kBlockEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,  ///< text is the operator
  kEnd,
};

struct Token {
  TokenKind kind;
  std::string text;  ///< decoded for strings
  int line;
  int64_t integer = 0;
  double real = 0;
};

/// Throws Error{kInvalidArgument} "NAME, line N: …". The last token is kEnd.
std::vector<Token> tokenize(std::string_view source, std::string_view name);

/// How a token is named in messages.
std::string describe(const Token& token);

}  // namespace erne::jinja
