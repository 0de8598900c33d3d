// Statements of the template language: {% if %}, {% for %}, {% set %}, {% macro %}, …
#include <algorithm>
#include <utility>

#include "base/utf8.h"
#include "chat/jinja/parser.h"
#include "chat/jinja/parser_state.h"

namespace erne::jinja {
namespace {

constexpr std::string_view kUnsupportedTags[] = {
    "block", "extends", "include", "import", "from", "autoescape", "print", "do", "trans", "debug"};

}  // namespace

void Parser::fail(Code code, std::string_view message, int line) const {
  erne::fail(code, "{}, line {}: {}", name_, line, message);
}

Token Parser::next() {
  Token token = tokens_[at_];
  if (token.kind != TokenKind::kEnd) ++at_;
  return token;
}

bool Parser::skip_op(std::string_view op) {
  if (!is_op(op)) return false;
  ++at_;
  return true;
}

bool Parser::skip_name(std::string_view name) {
  if (!is_name(name)) return false;
  ++at_;
  return true;
}

void Parser::expect_op(std::string_view op) {
  if (!skip_op(op))
    fail(fmt::format("expected '{}', got {}", op, describe(current())), current().line);
}

void Parser::expect_name(std::string_view name) {
  if (!skip_name(name))
    fail(fmt::format("expected '{}', got {}", name, describe(current())), current().line);
}

std::string Parser::expect_identifier() {
  if (current().kind != TokenKind::kName) {
    fail(fmt::format("expected a name, got {}", describe(current())), current().line);
  }
  return next().text;
}

void Parser::expect_end_of_tag(TokenKind kind) {
  if (current().kind != kind) {
    fail(fmt::format("expected the end of the tag, got {}", describe(current())), current().line);
  }
  next();
}

Body Parser::parse_template() { return parse_body({}, "", 1); }

// Statements up to a tag named in `ends`, of which the name is consumed but not the rest of the
// tag: the caller looks at tokens_[at_ - 1] to see which one it was.
Body Parser::parse_body(std::initializer_list<std::string_view> ends, std::string_view opener,
                        int opener_line) {
  const Nested nested(*this);
  Body body;
  for (;;) {
    const Token token = next();
    if (token.kind == TokenKind::kEnd) {
      if (ends.size() == 0) return body;
      fail(fmt::format("unexpected end of template; '{}' of line {} is not closed", opener,
                       opener_line),
           token.line);
    }
    if (token.kind == TokenKind::kData) {
      body.push_back({token.line, DataStatement{token.text}});
    } else if (token.kind == TokenKind::kVariableBegin) {
      body.push_back({token.line, OutputStatement{parse_tuple({})}});
      expect_end_of_tag(TokenKind::kVariableEnd);
    } else {
      const bool ends_here =
          std::any_of(ends.begin(), ends.end(), [&](auto end) { return is_name(end); });
      if (ends_here) {
        next();
        return body;
      }
      body.push_back(parse_statement());
      expect_end_of_tag(TokenKind::kBlockEnd);
    }
  }
}

Statement Parser::parse_statement() {
  const int line = current().line;
  const std::string tag = expect_identifier();
  if (tag == "if") return parse_if(line);
  if (tag == "for") return parse_for(line);
  if (tag == "set") return parse_set(line);
  if (tag == "macro") return parse_macro(line);
  if (tag == "call") return parse_call_block(line);
  if (tag == "filter") return parse_filter_block(line);
  if (tag == "with") return parse_with(line);
  if (tag == "generation") {
    expect_end_of_tag(TokenKind::kBlockEnd);
    return {line, ScopeStatement{parse_body({"endgeneration"}, tag, line)}};
  }
  if (tag == "break" || tag == "continue") {
    if (loops_ == 0) fail(fmt::format("'{}' outside of a loop", tag), line);
    if (tag == "break") return {line, BreakStatement{}};
    return {line, ContinueStatement{}};
  }
  if (std::find(std::begin(kUnsupportedTags), std::end(kUnsupportedTags), tag) !=
      std::end(kUnsupportedTags)) {
    fail(Code::kUnsupported, fmt::format("tag '{}' is not supported", tag), line);
  }
  fail(fmt::format("unknown or misplaced tag '{}'", tag), line);
}

Statement Parser::parse_if(int line) {
  IfStatement statement;
  std::string_view tag = "elif";
  while (tag == "elif") {
    ExprPtr test = parse_tuple({.conditional = false});
    expect_end_of_tag(TokenKind::kBlockEnd);
    Body body = parse_body({"elif", "else", "endif"}, "if", line);
    tag = tokens_[at_ - 1].text;
    statement.branches.emplace_back(std::move(test), std::move(body));
  }
  if (tag == "else") {
    expect_end_of_tag(TokenKind::kBlockEnd);
    statement.otherwise = parse_body({"endif"}, "if", line);
  }
  return {line, std::move(statement)};
}

Statement Parser::parse_for(int line) {
  ForStatement statement;
  statement.target = parse_target(false);
  expect_name("in");
  statement.iterable = parse_tuple({.conditional = false, .stop = "recursive"});
  if (skip_name("if")) statement.condition = parse_expression();
  statement.recursive = skip_name("recursive");
  expect_end_of_tag(TokenKind::kBlockEnd);
  ++loops_;
  statement.body = parse_body({"else", "endfor"}, "for", line);
  --loops_;
  if (tokens_[at_ - 1].text == "else") {
    expect_end_of_tag(TokenKind::kBlockEnd);
    statement.otherwise = parse_body({"endfor"}, "for", line);
  }
  return {line, std::move(statement)};
}

Target Parser::parse_single_target(bool allow_attribute) {
  const int line = current().line;
  if (skip_op("(")) {
    const Nested nested(*this);
    Target target = parse_target(allow_attribute);
    expect_op(")");
    return target;
  }
  Target target{line, expect_identifier(), "", {}};
  for (const std::string_view word : {"true", "false", "none", "True", "False", "None"}) {
    if (target.name == word) fail(fmt::format("cannot assign to '{}'", word), line);
  }
  if (allow_attribute && skip_op(".")) target.attribute = expect_identifier();
  return target;
}

Target Parser::parse_target(bool allow_attribute) {
  const int line = current().line;
  Target first = parse_single_target(allow_attribute);
  if (!is_op(",")) return first;
  Target tuple{line, "", "", {}};
  tuple.members.push_back(std::move(first));
  while (skip_op(",")) {
    if (is_name("in") || is_op("=") || is_op(")")) break;
    tuple.members.push_back(parse_single_target(allow_attribute));
  }
  return tuple;
}

Statement Parser::parse_set(int line) {
  Target target = parse_target(true);
  if (skip_op("=")) return {line, SetStatement{std::move(target), parse_tuple({})}};
  ExprPtr filter;
  while (skip_op("|")) filter = parse_filter(std::move(filter));
  expect_end_of_tag(TokenKind::kBlockEnd);
  Body body = parse_body({"endset"}, "set", line);
  return {line, SetBlockStatement{std::move(target), std::move(filter), std::move(body)}};
}

std::vector<Parameter> Parser::parse_parameters() {
  expect_op("(");
  std::vector<Parameter> parameters;
  while (!is_op(")")) {
    if (!parameters.empty()) expect_op(",");
    const int line = current().line;
    Parameter parameter{expect_identifier(), nullptr};
    if (skip_op("=")) {
      parameter.default_value = parse_expression();
    } else if (!parameters.empty() && parameters.back().default_value != nullptr) {
      fail(fmt::format("parameter '{}' without a default follows one with a default",
                       parameter.name),
           line);
    }
    parameters.push_back(std::move(parameter));
  }
  expect_op(")");
  return parameters;
}

void Parser::parse_callable_body(Callable& callable, std::string_view end, std::string_view opener,
                                 int line) {
  expect_end_of_tag(TokenKind::kBlockEnd);
  const int loops = std::exchange(loops_, 0);
  callables_.push_back(&callable);
  callable.body = parse_body({end}, opener, line);
  callables_.pop_back();
  loops_ = loops;
}

Statement Parser::parse_macro(int line) {
  Callable macro;
  macro.name = expect_identifier();
  macro.parameters = parse_parameters();
  parse_callable_body(macro, "endmacro", "macro", line);
  return {line, MacroStatement{std::move(macro)}};
}

Statement Parser::parse_call_block(int line) {
  Callable caller;
  if (is_op("(")) caller.parameters = parse_parameters();
  ExprPtr call = parse_expression();
  if (!std::holds_alternative<CallExpr>(call->node)) fail("expected a call", line);
  parse_callable_body(caller, "endcall", "call", line);
  return {line, CallStatement{std::move(caller), std::move(call)}};
}

Statement Parser::parse_filter_block(int line) {
  ExprPtr filter = parse_filter(nullptr);
  while (skip_op("|")) filter = parse_filter(std::move(filter));
  expect_end_of_tag(TokenKind::kBlockEnd);
  Body body = parse_body({"endfilter"}, "filter", line);
  return {line, FilterStatement{std::move(filter), std::move(body)}};
}

Statement Parser::parse_with(int line) {
  WithStatement statement;
  while (current().kind != TokenKind::kBlockEnd) {
    if (!statement.assignments.empty()) expect_op(",");
    Target target = parse_single_target(false);
    expect_op("=");
    statement.assignments.emplace_back(std::move(target), parse_expression());
  }
  expect_end_of_tag(TokenKind::kBlockEnd);
  statement.body = parse_body({"endwith"}, "with", line);
  return {line, std::move(statement)};
}

Body parse(std::string_view source, std::string_view name) {
  if (!utf8::valid(source))
    fail(Code::kInvalidArgument, "{}: the template is not valid UTF-8", name);
  return Parser(tokenize(source, name), name).parse_template();
}

}  // namespace erne::jinja
