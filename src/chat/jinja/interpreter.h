// Executes a parsed template. One Interpreter per rendering; the tree is shared and never written.
#pragma once

#include <functional>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "chat/jinja/ast.h"
#include "chat/jinja/runtime.h"
#include "chat/jinja/value.h"

namespace erne::jinja {

/// Variables of one block. Names point into the tree or are literals.
struct Scope {
  std::shared_ptr<Scope> outer;
  std::vector<std::pair<std::string_view, Value>> variables;

  const Value* find(std::string_view name) const;
  void set(std::string_view name, Value value);
};
using ScopePtr = std::shared_ptr<Scope>;

class LoopObject;

class Interpreter {
 public:
  explicit Interpreter(Runtime& runtime) : runtime_(runtime) {}
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  MarkedText render(const Body& body, const ScopePtr& globals);

  Runtime& runtime() { return runtime_; }
  Value call(const Value& callee, Arguments arguments);
  /// Runs a macro or call block.
  Value call_macro(const Callable& macro, const ScopePtr& defined_in, Arguments arguments);
  /// Runs a recursive loop's body for other items: loop(items).
  Value call_loop(const ForStatement& loop, const ScopePtr& scope, const Value& items, int depth);

 private:
  enum class Flow { kNext, kBreak, kContinue };

  Flow run(const Body& body, const ScopePtr& scope, MarkedText& out);
  Flow run(const DataStatement& statement, const ScopePtr& scope, MarkedText& out);
  Flow run(const OutputStatement& statement, const ScopePtr& scope, MarkedText& out);
  Flow run(const IfStatement& statement, const ScopePtr& scope, MarkedText& out);
  Flow run(const ForStatement& statement, const ScopePtr& scope, MarkedText& out);
  Flow run(const SetStatement& statement, const ScopePtr& scope, MarkedText& out);
  Flow run(const SetBlockStatement& statement, const ScopePtr& scope, MarkedText& out);
  Flow run(const MacroStatement& statement, const ScopePtr& scope, MarkedText& out);
  Flow run(const CallStatement& statement, const ScopePtr& scope, MarkedText& out);
  Flow run(const FilterStatement& statement, const ScopePtr& scope, MarkedText& out);
  Flow run(const WithStatement& statement, const ScopePtr& scope, MarkedText& out);
  Flow run(const ScopeStatement& statement, const ScopePtr& scope, MarkedText& out);
  Flow run(const BreakStatement&, const ScopePtr&, MarkedText&) { return Flow::kBreak; }
  Flow run(const ContinueStatement&, const ScopePtr&, MarkedText&) { return Flow::kContinue; }
  Flow loop(const ForStatement& statement, const ScopePtr& scope, const Value& items, int depth,
            MarkedText& out);
  void check_output(const MarkedText& out) const;
  void assign(const Target& target, const ScopePtr& scope, const Value& value);
  void bind_parameters(const Callable& macro, const ScopePtr& scope, Arguments arguments);

  Value eval(const Expr& expr, const ScopePtr& scope);
  Value eval(const ConstExpr& expr, const ScopePtr& scope);
  Value eval(const NameExpr& expr, const ScopePtr& scope);
  Value eval(const ListExpr& expr, const ScopePtr& scope);
  Value eval(const DictExpr& expr, const ScopePtr& scope);
  Value eval(const UnaryExpr& expr, const ScopePtr& scope);
  Value eval(const BinaryExpr& expr, const ScopePtr& scope);
  Value eval(const ConcatExpr& expr, const ScopePtr& scope);
  Value eval(const CompareExpr& expr, const ScopePtr& scope);
  Value eval(const ConditionalExpr& expr, const ScopePtr& scope);
  Value eval(const AttributeExpr& expr, const ScopePtr& scope);
  Value eval(const ItemExpr& expr, const ScopePtr& scope);
  Value eval(const SliceExpr& expr, const ScopePtr& scope);
  Value eval(const CallExpr& expr, const ScopePtr& scope);
  Value eval(const FilterExpr& expr, const ScopePtr& scope);
  Value eval(const TestExpr& expr, const ScopePtr& scope);
  Value eval_or_none(const ExprPtr& expr, const ScopePtr& scope);
  Value eval_call(const CallExpr& expr, const ScopePtr& scope, Arguments extra);
  Arguments eval_arguments(const CallArguments& arguments, const ScopePtr& scope);
  /// A chain of filters whose innermost input is `input`.
  Value filter_text(const Expr& filter, const ScopePtr& scope, Value input);

  Runtime& runtime_;
};

}  // namespace erne::jinja
