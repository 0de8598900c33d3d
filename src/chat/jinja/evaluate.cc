// Expressions of a template.
#include <utility>

#include "chat/jinja/filters.h"
#include "chat/jinja/interpreter.h"
#include "chat/jinja/methods.h"
#include "chat/jinja/operators.h"
#include "chat/jinja/predicates.h"

namespace erne::jinja {

Value Interpreter::eval(const Expr& expr, const ScopePtr& scope) {
  const Runtime::Depth depth(runtime_);
  runtime_.set_line(expr.line);
  runtime_.step();
  return std::visit([&](const auto& node) { return eval(node, scope); }, expr.node);
}

Value Interpreter::eval_or_none(const ExprPtr& expr, const ScopePtr& scope) {
  return expr == nullptr ? Value(None{}) : eval(*expr, scope);
}

Value Interpreter::eval(const ConstExpr& expr, const ScopePtr&) { return expr.value; }

Value Interpreter::eval(const NameExpr& expr, const ScopePtr& scope) {
  if (const Value* value = scope->find(expr.name)) return *value;
  return Value::undefined(fmt::format("'{}' is undefined", expr.name));
}

Value Interpreter::eval(const ListExpr& expr, const ScopePtr& scope) {
  std::vector<Value> items;
  for (const ExprPtr& item : expr.items) items.push_back(eval(*item, scope));
  return make_list(runtime_, std::move(items), expr.tuple ? ListKind::kTuple : ListKind::kList);
}

Value Interpreter::eval(const DictExpr& expr, const ScopePtr& scope) {
  auto dict = std::make_shared<Dict>();
  for (const auto& [key, value] : expr.entries) {
    Value key_value = eval(*key, scope);
    set_entry(runtime_, *dict, std::move(key_value), eval(*value, scope));
  }
  return std::shared_ptr<const Dict>(std::move(dict));
}

Value Interpreter::eval(const UnaryExpr& expr, const ScopePtr& scope) {
  return unary(runtime_, expr.op, eval(*expr.operand, scope));
}

Value Interpreter::eval(const BinaryExpr& expr, const ScopePtr& scope) {
  Value left = eval(*expr.left, scope);
  if (expr.op == BinaryOp::kAnd) return left.truthy() ? eval(*expr.right, scope) : left;
  if (expr.op == BinaryOp::kOr) return left.truthy() ? left : eval(*expr.right, scope);
  return binary(runtime_, expr.op, left, eval(*expr.right, scope));
}

Value Interpreter::eval(const ConcatExpr& expr, const ScopePtr& scope) {
  MarkedText out;
  for (const ExprPtr& part : expr.parts) {
    const MarkedText text = to_text(runtime_, eval(*part, scope));
    runtime_.charge(text.size());
    out.append(text);
  }
  return out;
}

Value Interpreter::eval(const CompareExpr& expr, const ScopePtr& scope) {
  Value left = eval(*expr.first, scope);
  for (const auto& [op, operand] : expr.rest) {
    Value right = eval(*operand, scope);
    if (!compare(runtime_, op, left, right)) return false;
    left = std::move(right);
  }
  return true;
}

Value Interpreter::eval(const ConditionalExpr& expr, const ScopePtr& scope) {
  if (eval(*expr.test, scope).truthy()) return eval(*expr.then, scope);
  if (expr.otherwise != nullptr) return eval(*expr.otherwise, scope);
  return Value::undefined(
      "the inline if-expression evaluated to false and no else section was defined");
}

Value Interpreter::eval(const AttributeExpr& expr, const ScopePtr& scope) {
  return get_attribute(runtime_, eval(*expr.object, scope), expr.name);
}

Value Interpreter::eval(const ItemExpr& expr, const ScopePtr& scope) {
  const Value object = eval(*expr.object, scope);
  return get_item(runtime_, object, eval(*expr.index, scope));
}

Value Interpreter::eval(const SliceExpr& expr, const ScopePtr& scope) {
  const Value object = eval(*expr.object, scope);
  const Value start = eval_or_none(expr.start, scope);
  const Value stop = eval_or_none(expr.stop, scope);
  return slice(runtime_, object, start, stop, eval_or_none(expr.step, scope));
}

Arguments Interpreter::eval_arguments(const CallArguments& arguments, const ScopePtr& scope) {
  Arguments out;
  for (const ExprPtr& argument : arguments.positional)
    out.positional.push_back(eval(*argument, scope));
  for (const auto& [name, argument] : arguments.named)
    out.named.emplace_back(name, eval(*argument, scope));
  if (arguments.star != nullptr) {
    const auto items = iterate(runtime_, eval(*arguments.star, scope));
    out.positional.insert(out.positional.end(), items->items.begin(), items->items.end());
  }
  if (arguments.double_star != nullptr) {
    const Value value = eval(*arguments.double_star, scope);
    if (value.dict() == nullptr)
      runtime_.fail(fmt::format("'**' needs a dict, got {}", value.type_name()));
    for (const auto& [key, item] : value.dict()->entries()) {
      if (key.string() == nullptr) runtime_.fail("'**' needs a dict with string keys");
      out.named.emplace_back(key.string()->bytes(), item);
    }
  }
  runtime_.step(static_cast<int64_t>(out.positional.size() + out.named.size()));
  return out;
}

Value Interpreter::eval(const CallExpr& expr, const ScopePtr& scope) {
  return eval_call(expr, scope, {});
}

Value Interpreter::eval_call(const CallExpr& expr, const ScopePtr& scope, Arguments extra) {
  const auto arguments = [&] {
    Arguments out = eval_arguments(expr.arguments, scope);
    for (auto& named : extra.named) out.named.push_back(std::move(named));
    return out;
  };
  if (const auto* attribute = std::get_if<AttributeExpr>(&expr.callee->node)) {
    const int line = expr.callee->line;
    const Value object = eval(*attribute->object, scope);
    if (has_method(object, attribute->name)) {
      const Arguments given = arguments();
      runtime_.set_line(line);
      return call_method(runtime_, object, attribute->name, given);
    }
    const Value callee = get_attribute(runtime_, object, attribute->name);
    return call(callee, arguments());
  }
  const Value callee = eval(*expr.callee, scope);
  return call(callee, arguments());
}

Value Interpreter::call(const Value& callee, Arguments arguments) {
  if (callee.is_undefined()) runtime_.fail_undefined(callee.undefined_reason());
  Object* object = callee.object();
  if (object == nullptr || !object->callable()) {
    runtime_.fail(fmt::format("a {} cannot be called", callee.type_name()));
  }
  return object->call(*this, std::move(arguments));
}

Value Interpreter::eval(const FilterExpr& expr, const ScopePtr& scope) {
  const Value input = eval(*expr.input, scope);
  return apply_filter(runtime_, expr.name, input, eval_arguments(expr.arguments, scope));
}

Value Interpreter::filter_text(const Expr& filter, const ScopePtr& scope, Value input) {
  const auto& node = std::get<FilterExpr>(filter.node);
  if (node.input != nullptr) input = filter_text(*node.input, scope, std::move(input));
  return apply_filter(runtime_, node.name, input, eval_arguments(node.arguments, scope));
}

Value Interpreter::eval(const TestExpr& expr, const ScopePtr& scope) {
  const Value input = eval(*expr.input, scope);
  return apply_test(runtime_, expr.name, input, eval_arguments(expr.arguments, scope));
}

}  // namespace erne::jinja
