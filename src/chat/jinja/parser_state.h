// The recursive descent parser's state; expressions are in parse_expression.cc, statements in
// parse_statement.cc.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "chat/jinja/ast.h"
#include "chat/jinja/lexer.h"

namespace erne::jinja {

class Parser {
 public:
  Parser(std::vector<Token> tokens, std::string_view name)
      : tokens_(std::move(tokens)), name_(name) {}
  Body parse_template();

 private:
  /// Bounds the depth of the tree, so that neither parsing, rendering nor freeing it can exhaust
  /// the stack.
  class Nested {
   public:
    explicit Nested(Parser& parser);
    Nested(const Nested&) = delete;
    Nested& operator=(const Nested&) = delete;
    ~Nested() { --parser_.depth_; }

   private:
    Parser& parser_;
  };

  // Tokens.
  const Token& current() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  Token next();
  bool is_op(std::string_view op) const {
    return current().kind == TokenKind::kOperator && current().text == op;
  }
  bool is_name(std::string_view name) const {
    return current().kind == TokenKind::kName && current().text == name;
  }
  bool skip_op(std::string_view op);
  bool skip_name(std::string_view name);
  void expect_op(std::string_view op);
  void expect_name(std::string_view name);
  std::string expect_identifier();
  void expect_end_of_tag(TokenKind kind);
  [[noreturn]] void fail(std::string_view message, int line) const {
    fail(Code::kInvalidArgument, message, line);
  }
  [[noreturn]] void fail(Code code, std::string_view message, int line) const;

  // Expressions (parse_expression.cc), loosest first. `conditional`: "a if b else c" is allowed
  // here.
  template <typename Node>
  ExprPtr make(int line, Node node);
  void count_link(int& links) const;
  ExprPtr parse_expression(bool conditional = true);
  ExprPtr parse_conditional();
  ExprPtr parse_or();
  ExprPtr parse_and();
  ExprPtr parse_not();
  ExprPtr parse_compare();
  bool parse_compare_op(CompareOp& op);
  ExprPtr parse_sum();
  ExprPtr parse_concat();
  ExprPtr parse_product();
  ExprPtr parse_power();
  ExprPtr parse_unary(bool with_filter = true);
  ExprPtr parse_primary();
  ExprPtr parse_string();
  ExprPtr parse_postfix(ExprPtr expr);
  ExprPtr parse_filters_and_tests(ExprPtr expr);
  ExprPtr parse_filter(ExprPtr input);
  ExprPtr parse_test(ExprPtr input);
  ExprPtr parse_subscript(ExprPtr object);
  ExprPtr parse_call(ExprPtr callee);
  CallArguments parse_arguments();
  ExprPtr parse_list();
  ExprPtr parse_dict();
  struct TupleRules {
    bool conditional = true;
    bool parentheses = false;    ///< an empty tuple is allowed
    std::string_view stop = {};  ///< a name that ends the tuple
  };
  ExprPtr parse_tuple(TupleRules rules);
  bool at_tuple_end(std::string_view stop) const;

  // Statements (parse_statement.cc).
  Body parse_body(std::initializer_list<std::string_view> ends, std::string_view opener,
                  int opener_line);
  Statement parse_statement();
  Statement parse_if(int line);
  Statement parse_for(int line);
  Statement parse_set(int line);
  Statement parse_macro(int line);
  Statement parse_call_block(int line);
  Statement parse_filter_block(int line);
  Statement parse_with(int line);
  Target parse_target(bool allow_attribute);
  Target parse_single_target(bool allow_attribute);
  std::vector<Parameter> parse_parameters();
  void parse_callable_body(Callable& callable, std::string_view end, std::string_view opener,
                           int line);

  std::vector<Token> tokens_;
  std::string_view name_;
  size_t at_ = 0;
  int depth_ = 0;
  int loops_ = 0;  ///< for loops around this place, within the innermost callable
  std::vector<Callable*> callables_;  ///< macros and call blocks around this place
};

}  // namespace erne::jinja
