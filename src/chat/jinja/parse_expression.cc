// Expressions of the template language, loosest binding first: if-else, or, and, not, comparisons,
// + -, ~, * / // %,
// **, unary, subscripts and calls, filters and tests.
#include <algorithm>
#include <utility>

#include "chat/jinja/filters.h"
#include "chat/jinja/parser_state.h"
#include "chat/jinja/predicates.h"

namespace erne::jinja {
namespace {

constexpr int kMaxNesting = 100;
// Operators in one chain, e.g. a + b + c: the tree leans to the left by one level for each.
constexpr int kMaxChain = 250;

BinaryOp binary_op(std::string_view text) {
  if (text == "+") return BinaryOp::kAdd;
  if (text == "-") return BinaryOp::kSub;
  if (text == "*") return BinaryOp::kMul;
  if (text == "/") return BinaryOp::kDiv;
  if (text == "//") return BinaryOp::kFloorDiv;
  return BinaryOp::kMod;
}

}  // namespace

Parser::Nested::Nested(Parser& parser) : parser_(parser) {
  if (++parser_.depth_ <= kMaxNesting) return;
  --parser_.depth_;
  parser_.fail(fmt::format("nested deeper than {} levels", kMaxNesting), parser_.current().line);
}

template <typename Node>
ExprPtr Parser::make(int line, Node node) {
  return std::make_unique<Expr>(Expr{line, std::move(node)});
}

void Parser::count_link(int& links) const {
  if (++links > kMaxChain)
    fail(fmt::format("more than {} operators in one expression", kMaxChain), current().line);
}

ExprPtr Parser::parse_expression(bool conditional) {
  const Nested nested(*this);
  return conditional ? parse_conditional() : parse_or();
}

ExprPtr Parser::parse_conditional() {
  const Nested nested(*this);
  int line = current().line;
  int links = 0;
  ExprPtr expr = parse_or();
  while (skip_name("if")) {
    count_link(links);
    ExprPtr test = parse_or();
    ExprPtr otherwise = skip_name("else") ? parse_conditional() : nullptr;
    expr = make(line, ConditionalExpr{std::move(test), std::move(expr), std::move(otherwise)});
    line = current().line;
  }
  return expr;
}

ExprPtr Parser::parse_or() {
  const int line = current().line;
  int links = 0;
  ExprPtr left = parse_and();
  while (skip_name("or")) {
    count_link(links);
    ExprPtr right = parse_and();
    left = make(line, BinaryExpr{BinaryOp::kOr, std::move(left), std::move(right)});
  }
  return left;
}

ExprPtr Parser::parse_and() {
  const int line = current().line;
  int links = 0;
  ExprPtr left = parse_not();
  while (skip_name("and")) {
    count_link(links);
    ExprPtr right = parse_not();
    left = make(line, BinaryExpr{BinaryOp::kAnd, std::move(left), std::move(right)});
  }
  return left;
}

ExprPtr Parser::parse_not() {
  if (!is_name("not")) return parse_compare();
  const Nested nested(*this);
  const int line = next().line;
  return make(line, UnaryExpr{UnaryOp::kNot, parse_not()});
}

bool Parser::parse_compare_op(CompareOp& op) {
  constexpr std::pair<std::string_view, CompareOp> kOperators[] = {
      {"==", CompareOp::kEq}, {"!=", CompareOp::kNe}, {"<", CompareOp::kLt},
      {"<=", CompareOp::kLe}, {">", CompareOp::kGt},  {">=", CompareOp::kGe}};
  for (const auto& [text, candidate] : kOperators) {
    if (!skip_op(text)) continue;
    op = candidate;
    return true;
  }
  if (skip_name("in")) {
    op = CompareOp::kIn;
    return true;
  }
  if (is_name("not") && ahead().kind == TokenKind::kName && ahead().text == "in") {
    at_ += 2;
    op = CompareOp::kNotIn;
    return true;
  }
  return false;
}

ExprPtr Parser::parse_compare() {
  const int line = current().line;
  CompareExpr compare{parse_sum(), {}};
  for (CompareOp op; parse_compare_op(op);) compare.rest.emplace_back(op, parse_sum());
  if (compare.rest.empty()) return std::move(compare.first);
  return make(line, std::move(compare));
}

ExprPtr Parser::parse_sum() {
  const int line = current().line;
  int links = 0;
  ExprPtr left = parse_concat();
  while (is_op("+") || is_op("-")) {
    count_link(links);
    const BinaryOp op = binary_op(next().text);
    ExprPtr right = parse_concat();
    left = make(line, BinaryExpr{op, std::move(left), std::move(right)});
  }
  return left;
}

ExprPtr Parser::parse_concat() {
  const int line = current().line;
  ConcatExpr concat;
  concat.parts.push_back(parse_product());
  while (skip_op("~")) concat.parts.push_back(parse_product());
  if (concat.parts.size() == 1) return std::move(concat.parts.front());
  return make(line, std::move(concat));
}

ExprPtr Parser::parse_product() {
  const int line = current().line;
  int links = 0;
  ExprPtr left = parse_power();
  while (is_op("*") || is_op("/") || is_op("//") || is_op("%")) {
    count_link(links);
    const BinaryOp op = binary_op(next().text);
    ExprPtr right = parse_power();
    left = make(line, BinaryExpr{op, std::move(left), std::move(right)});
  }
  return left;
}

ExprPtr Parser::parse_power() {
  const int line = current().line;
  int links = 0;
  ExprPtr left = parse_unary();
  while (skip_op("**")) {
    count_link(links);
    ExprPtr right = parse_unary();
    left = make(line, BinaryExpr{BinaryOp::kPow, std::move(left), std::move(right)});
  }
  return left;
}

ExprPtr Parser::parse_unary(bool with_filter) {
  const Nested nested(*this);
  const int line = current().line;
  ExprPtr expr;
  if (skip_op("-")) {
    expr = make(line, UnaryExpr{UnaryOp::kMinus, parse_unary(false)});
  } else if (skip_op("+")) {
    expr = make(line, UnaryExpr{UnaryOp::kPlus, parse_unary(false)});
  } else {
    expr = parse_primary();
  }
  expr = parse_postfix(std::move(expr));
  return with_filter ? parse_filters_and_tests(std::move(expr)) : std::move(expr);
}

ExprPtr Parser::parse_string() {
  const int line = current().line;
  std::string text = next().text;
  while (current().kind == TokenKind::kString) text += next().text;
  return make(line, ConstExpr{Value::text(text)});
}

ExprPtr Parser::parse_primary() {
  const Token& token = current();
  const int line = token.line;
  switch (token.kind) {
    case TokenKind::kString:
      return parse_string();
    case TokenKind::kInteger:
      return make(line, ConstExpr{next().integer});
    case TokenKind::kFloat:
      return make(line, ConstExpr{next().real});
    case TokenKind::kName: {
      std::string name = next().text;
      if (name == "true" || name == "True") return make(line, ConstExpr{true});
      if (name == "false" || name == "False") return make(line, ConstExpr{false});
      if (name == "none" || name == "None") return make(line, ConstExpr{None{}});
      for (Callable* callable : callables_) {
        callable->takes_varargs |= name == "varargs";
        callable->takes_kwargs |= name == "kwargs";
        callable->takes_caller |= name == "caller";
      }
      return make(line, NameExpr{std::move(name)});
    }
    default:
      break;
  }
  if (is_op("[")) return parse_list();
  if (is_op("{")) return parse_dict();
  if (!skip_op("(")) fail(fmt::format("expected an expression, got {}", describe(token)), line);
  ExprPtr expr = parse_tuple({.conditional = true, .parentheses = true});
  expect_op(")");
  return expr;
}

bool Parser::at_tuple_end(std::string_view stop) const {
  const TokenKind kind = current().kind;
  if (kind == TokenKind::kVariableEnd || kind == TokenKind::kBlockEnd || is_op(")")) return true;
  return !stop.empty() && is_name(stop);
}

ExprPtr Parser::parse_tuple(TupleRules rules) {
  const int line = current().line;
  ListExpr tuple{{}, true};
  bool comma = false;
  while (!at_tuple_end(rules.stop)) {
    tuple.items.push_back(parse_expression(rules.conditional));
    if (!skip_op(",")) break;
    comma = true;
  }
  if (comma) return make(line, std::move(tuple));
  if (!tuple.items.empty()) return std::move(tuple.items.front());
  if (!rules.parentheses)
    fail(fmt::format("expected an expression, got {}", describe(current())), line);
  return make(line, std::move(tuple));
}

ExprPtr Parser::parse_list() {
  const int line = next().line;
  ListExpr list{{}, false};
  while (!is_op("]")) {
    if (!list.items.empty()) expect_op(",");
    if (is_op("]")) break;
    list.items.push_back(parse_expression());
  }
  expect_op("]");
  return make(line, std::move(list));
}

ExprPtr Parser::parse_dict() {
  const int line = next().line;
  DictExpr dict;
  while (!is_op("}")) {
    if (!dict.entries.empty()) expect_op(",");
    if (is_op("}")) break;
    ExprPtr key = parse_expression();
    expect_op(":");
    ExprPtr value = parse_expression();
    dict.entries.emplace_back(std::move(key), std::move(value));
  }
  expect_op("}");
  return make(line, std::move(dict));
}

ExprPtr Parser::parse_postfix(ExprPtr expr) {
  for (int links = 0;; count_link(links)) {
    if (is_op(".") || is_op("[")) {
      expr = parse_subscript(std::move(expr));
    } else if (is_op("(")) {
      expr = parse_call(std::move(expr));
    } else {
      return expr;
    }
  }
}

ExprPtr Parser::parse_filters_and_tests(ExprPtr expr) {
  for (int links = 0;; count_link(links)) {
    if (skip_op("|")) {
      expr = parse_filter(std::move(expr));
    } else if (is_name("is")) {
      expr = parse_test(std::move(expr));
    } else if (is_op("(")) {
      expr = parse_call(std::move(expr));
    } else {
      return expr;
    }
  }
}

ExprPtr Parser::parse_subscript(ExprPtr object) {
  const int line = current().line;
  if (skip_op(".")) {
    const Token token = next();
    if (token.kind == TokenKind::kName)
      return make(line, AttributeExpr{std::move(object), token.text});
    if (token.kind != TokenKind::kInteger) fail("expected a name or number after '.'", token.line);
    return make(line, ItemExpr{std::move(object), make(line, ConstExpr{token.integer})});
  }
  expect_op("[");
  const auto at_part_end = [&] { return is_op(":") || is_op("]"); };
  SliceExpr slice{std::move(object), nullptr, nullptr, nullptr};
  if (!at_part_end()) slice.start = parse_expression();
  if (is_op(","))
    fail(Code::kUnsupported, "subscripts with several indices are not supported", line);
  if (!skip_op(":")) {
    if (slice.start == nullptr) fail("expected an expression between '[' and ']'", line);
    expect_op("]");
    return make(line, ItemExpr{std::move(slice.object), std::move(slice.start)});
  }
  if (!at_part_end()) slice.stop = parse_expression();
  if (skip_op(":") && !at_part_end()) slice.step = parse_expression();
  expect_op("]");
  return make(line, std::move(slice));
}

ExprPtr Parser::parse_call(ExprPtr callee) {
  const int line = current().line;
  if (const auto* name = std::get_if<NameExpr>(&callee->node)) {
    for (const std::string_view word : {"cycler", "joiner", "lipsum"}) {
      if (name->name == word)
        fail(Code::kUnsupported, fmt::format("function '{}' is not supported", word), line);
    }
  }
  return make(line, CallExpr{std::move(callee), parse_arguments()});
}

CallArguments Parser::parse_arguments() {
  const int line = current().line;
  expect_op("(");
  CallArguments arguments;
  const auto require = [&](bool allowed) {
    if (!allowed) fail("wrong order of arguments in a call", line);
  };
  bool first = true;
  while (!is_op(")")) {
    if (!first) expect_op(",");
    if (is_op(")")) break;
    first = false;
    if (skip_op("*")) {
      require(arguments.star == nullptr && arguments.double_star == nullptr);
      arguments.star = parse_expression();
    } else if (skip_op("**")) {
      require(arguments.double_star == nullptr);
      arguments.double_star = parse_expression();
    } else if (current().kind == TokenKind::kName && ahead().kind == TokenKind::kOperator &&
               ahead().text == "=") {
      require(arguments.double_star == nullptr);
      std::string name = next().text;
      next();
      arguments.named.emplace_back(std::move(name), parse_expression());
    } else {
      require(arguments.star == nullptr && arguments.double_star == nullptr &&
              arguments.named.empty());
      arguments.positional.push_back(parse_expression());
    }
  }
  expect_op(")");
  return arguments;
}

ExprPtr Parser::parse_filter(ExprPtr input) {
  const int line = current().line;
  std::string name = expect_identifier();
  if (!is_filter(name))
    fail(Code::kUnsupported, fmt::format("filter '{}' is not supported", name), line);
  CallArguments arguments;
  if (is_op("(")) arguments = parse_arguments();
  return make(line, FilterExpr{std::move(input), std::move(name), std::move(arguments)});
}

ExprPtr Parser::parse_test(ExprPtr input) {
  const int line = next().line;
  const bool negated = skip_name("not");
  std::string name = expect_identifier();
  if (!is_test(name))
    fail(Code::kUnsupported, fmt::format("test '{}' is not supported", name), line);
  CallArguments arguments;
  const TokenKind kind = current().kind;
  const bool word_ends = is_name("else") || is_name("or") || is_name("and");
  const bool starts_argument = kind == TokenKind::kString || kind == TokenKind::kInteger ||
                               kind == TokenKind::kFloat ||
                               (kind == TokenKind::kName && !word_ends) || is_op("[") || is_op("{");
  if (is_op("(")) {
    arguments = parse_arguments();
  } else if (starts_argument) {
    if (is_name("is")) fail("tests cannot be chained with 'is'", line);
    arguments.positional.push_back(parse_postfix(parse_primary()));
  }
  ExprPtr test = make(line, TestExpr{std::move(input), std::move(name), std::move(arguments)});
  return negated ? make(line, UnaryExpr{UnaryOp::kNot, std::move(test)}) : std::move(test);
}

}  // namespace erne::jinja
