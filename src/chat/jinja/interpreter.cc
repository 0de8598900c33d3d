// Statements: output, control flow, assignment, macros. Expressions are in evaluate.cc.
#include "chat/jinja/interpreter.h"

#include <algorithm>
#include <utility>

#include "chat/jinja/objects.h"
#include "chat/jinja/operators.h"

namespace erne::jinja {

const Value* Scope::find(std::string_view name) const {
  for (const Scope* scope = this; scope != nullptr; scope = scope->outer.get()) {
    for (const auto& [candidate, value] : scope->variables) {
      if (candidate == name) return &value;
    }
  }
  return nullptr;
}

void Scope::set(std::string_view name, Value value) {
  for (auto& [candidate, old] : variables) {
    if (candidate != name) continue;
    old = std::move(value);
    return;
  }
  variables.emplace_back(name, std::move(value));
}

namespace {

ScopePtr inner(const ScopePtr& outer) { return std::make_shared<Scope>(Scope{outer, {}}); }

}  // namespace

MarkedText Interpreter::render(const Body& body, const ScopePtr& globals) {
  MarkedText out;
  run(body, inner(globals), out);
  return out;
}

void Interpreter::check_output(const MarkedText& out) const {
  const size_t limit = runtime_.limits().output_bytes;
  if (out.size() > limit) runtime_.fail(fmt::format("the rendered text exceeds {} bytes", limit));
}

Interpreter::Flow Interpreter::run(const Body& body, const ScopePtr& scope, MarkedText& out) {
  const Runtime::Depth depth(runtime_);
  for (const Statement& statement : body) {
    runtime_.set_line(statement.line);
    runtime_.step();
    const Flow flow =
        std::visit([&](const auto& node) { return run(node, scope, out); }, statement.node);
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run(const DataStatement& statement, const ScopePtr&,
                                   MarkedText& out) {
  runtime_.charge(statement.text.size());
  out.append(statement.text);
  check_output(out);
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run(const OutputStatement& statement, const ScopePtr& scope,
                                   MarkedText& out) {
  const Value value = eval(*statement.value, scope);
  if (const MarkedText* text = value.string()) {
    runtime_.charge(text->size());
    out.append(*text);
  } else {
    out.append(to_text(runtime_, value));
  }
  check_output(out);
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run(const IfStatement& statement, const ScopePtr& scope,
                                   MarkedText& out) {
  for (const auto& [test, body] : statement.branches) {
    if (eval(*test, scope).truthy()) return run(body, scope, out);
  }
  return run(statement.otherwise, scope, out);
}

Interpreter::Flow Interpreter::run(const ForStatement& statement, const ScopePtr& scope,
                                   MarkedText& out) {
  const Value items = eval(*statement.iterable, scope);
  return loop(statement, scope, items, 0, out);
}

Interpreter::Flow Interpreter::loop(const ForStatement& statement, const ScopePtr& scope,
                                    const Value& items, int depth, MarkedText& out) {
  LoopObject::Condition condition;
  if (statement.condition != nullptr) {
    condition = [&statement, scope, this](const Value& item) {
      const ScopePtr inside = inner(scope);
      assign(statement.target, inside, item);
      return eval(*statement.condition, inside).truthy();
    };
  }
  auto* state = runtime_.create<LoopObject>(statement, scope, iterate(runtime_, items),
                                            std::move(condition), depth);
  // As in Jinja, the else branch runs unless some iteration reached the end of the body.
  bool any = false;
  while (const Value* item = state->next()) {
    runtime_.step();
    const ScopePtr inside = inner(scope);
    inside->set("loop", Value(state));
    assign(statement.target, inside, *item);
    const Flow flow = run(statement.body, inside, out);
    if (flow == Flow::kBreak) break;
    any |= flow == Flow::kNext;
  }
  return any ? Flow::kNext : run(statement.otherwise, inner(scope), out);
}

Value Interpreter::call_loop(const ForStatement& statement, const ScopePtr& scope,
                             const Value& items, int depth) {
  const Runtime::Depth guard(runtime_);
  if (!statement.recursive) runtime_.fail("loop() needs a loop marked 'recursive'");
  MarkedText out;
  loop(statement, scope, items, depth, out);
  return out;
}

void Interpreter::assign(const Target& target, const ScopePtr& scope, const Value& value) {
  if (!target.members.empty()) {
    const auto items = iterate(runtime_, value);
    if (items->items.size() != target.members.size()) {
      runtime_.fail(fmt::format("cannot unpack {} values into {} names", items->items.size(),
                                target.members.size()));
    }
    for (size_t i = 0; i < target.members.size(); ++i)
      assign(target.members[i], scope, items->items[i]);
    return;
  }
  if (target.attribute.empty()) {
    scope->set(target.name, value);
    return;
  }
  const Value* object = scope->find(target.name);
  auto* space = object == nullptr ? nullptr : dynamic_cast<NamespaceObject*>(object->object());
  if (space == nullptr)
    runtime_.fail(
        fmt::format("'{}' is not a namespace; only those have attributes to set", target.name));
  space->set(runtime_, target.attribute, value);
}

Interpreter::Flow Interpreter::run(const SetStatement& statement, const ScopePtr& scope,
                                   MarkedText&) {
  assign(statement.target, scope, eval(*statement.value, scope));
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run(const SetBlockStatement& statement, const ScopePtr& scope,
                                   MarkedText&) {
  MarkedText text;
  const Flow flow = run(statement.body, inner(scope), text);
  if (flow != Flow::kNext) return flow;
  Value value(std::move(text));
  if (statement.filter != nullptr) value = filter_text(*statement.filter, scope, std::move(value));
  assign(statement.target, scope, value);
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run(const MacroStatement& statement, const ScopePtr& scope,
                                   MarkedText&) {
  scope->set(statement.macro.name, Value(runtime_.create<MacroObject>(statement.macro, scope)));
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run(const CallStatement& statement, const ScopePtr& scope,
                                   MarkedText& out) {
  Arguments extra;
  extra.named.emplace_back("caller", Value(runtime_.create<MacroObject>(statement.caller, scope)));
  out.append(to_text(runtime_,
                     eval_call(std::get<CallExpr>(statement.call->node), scope, std::move(extra))));
  check_output(out);
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run(const FilterStatement& statement, const ScopePtr& scope,
                                   MarkedText& out) {
  MarkedText text;
  const Flow flow = run(statement.body, inner(scope), text);
  if (flow != Flow::kNext) return flow;
  out.append(to_text(runtime_, filter_text(*statement.filter, scope, std::move(text))));
  check_output(out);
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run(const WithStatement& statement, const ScopePtr& scope,
                                   MarkedText& out) {
  const ScopePtr inside = inner(scope);
  // Values see the outer variables only, not each other.
  for (const auto& [target, value] : statement.assignments)
    assign(target, inside, eval(*value, scope));
  return run(statement.body, inside, out);
}

Interpreter::Flow Interpreter::run(const ScopeStatement& statement, const ScopePtr& scope,
                                   MarkedText& out) {
  return run(statement.body, inner(scope), out);
}

void Interpreter::bind_parameters(const Callable& macro, const ScopePtr& scope,
                                  Arguments arguments) {
  const size_t count = macro.parameters.size();
  std::vector<Value> rest;
  for (size_t i = count; i < arguments.positional.size(); ++i)
    rest.push_back(std::move(arguments.positional[i]));
  if (!rest.empty() && !macro.takes_varargs) {
    runtime_.fail(fmt::format("macro '{}' takes at most {} arguments", macro.name, count));
  }
  for (size_t i = 0; i < count; ++i) {
    const Parameter& parameter = macro.parameters[i];
    const auto named =
        std::find_if(arguments.named.begin(), arguments.named.end(),
                     [&](const auto& argument) { return argument.first == parameter.name; });
    if (i < arguments.positional.size()) {
      scope->set(parameter.name, std::move(arguments.positional[i]));
    } else if (named != arguments.named.end()) {
      scope->set(parameter.name, std::move(named->second));
      arguments.named.erase(named);
    } else if (parameter.default_value != nullptr) {
      scope->set(parameter.name, eval(*parameter.default_value, scope));
    } else {
      scope->set(parameter.name,
                 Value::undefined(fmt::format("parameter '{}' was not provided", parameter.name)));
    }
  }
  auto kwargs = std::make_shared<Dict>();
  Value caller = Value::undefined("No caller defined");
  for (auto& [name, value] : arguments.named) {
    if (name == "caller" && macro.takes_caller) {
      caller = std::move(value);
    } else if (macro.takes_kwargs) {
      set_entry(runtime_, *kwargs, Value::text(name), std::move(value));
    } else {
      runtime_.fail(fmt::format("macro '{}' takes no argument '{}'", macro.name, name));
    }
  }
  const auto define = [&](std::string_view name, Value value) {
    const bool declared =
        std::any_of(macro.parameters.begin(), macro.parameters.end(),
                    [&](const Parameter& parameter) { return parameter.name == name; });
    if (!declared) scope->set(name, std::move(value));
  };
  if (macro.takes_varargs)
    define("varargs", make_list(runtime_, std::move(rest), ListKind::kTuple));
  if (macro.takes_kwargs) define("kwargs", std::shared_ptr<const Dict>(std::move(kwargs)));
  if (macro.takes_caller) define("caller", std::move(caller));
}

Value Interpreter::call_macro(const Callable& macro, const ScopePtr& defined_in,
                              Arguments arguments) {
  const Runtime::Depth depth(runtime_);
  const ScopePtr scope = inner(defined_in);
  bind_parameters(macro, scope, std::move(arguments));
  MarkedText out;
  run(macro.body, scope, out);
  return out;
}

}  // namespace erne::jinja
