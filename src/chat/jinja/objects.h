// Values with identity that templates meet: namespace(), loop, macros, functions, bound methods.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "chat/jinja/interpreter.h"
#include "chat/jinja/value.h"

namespace erne::jinja {

class NamespaceObject final : public Object {
 public:
  std::string_view type_name() const override { return "Namespace"; }
  std::string description() const override { return "<Namespace>"; }
  std::optional<Value> attribute(Runtime& runtime, std::string_view name) override;
  void set(Runtime& runtime, std::string_view name, Value value);

 private:
  std::vector<std::pair<std::string, Value>> attributes_;
};

class MacroObject final : public Object {
 public:
  MacroObject(const Callable& macro, ScopePtr scope) : macro_(macro), scope_(std::move(scope)) {}
  std::string_view type_name() const override { return "Macro"; }
  std::string description() const override { return "<Macro '" + macro_.name + "'>"; }
  Value call(Interpreter& interpreter, Arguments arguments) override;
  bool callable() const override { return true; }
  std::optional<Value> attribute(Runtime& runtime, std::string_view name) override;

 private:
  const Callable& macro_;
  ScopePtr scope_;
};

/// A built-in function such as range, or a method bound to its object.
class FunctionObject final : public Object {
 public:
  using Function = std::function<Value(Runtime&, const Arguments&)>;
  FunctionObject(std::string name, Function function)
      : name_(std::move(name)), function_(std::move(function)) {}
  std::string_view type_name() const override { return "function"; }
  std::string description() const override { return "<function " + name_ + ">"; }
  Value call(Interpreter& interpreter, Arguments arguments) override;
  bool callable() const override { return true; }

 private:
  std::string name_;
  Function function_;
};

/// The `loop` variable, and the loop's iterator: items that a condition drops are looked at only
/// when needed, since the condition may depend on what the body has done.
class LoopObject final : public Object {
 public:
  using Condition = std::function<bool(const Value&)>;
  LoopObject(const ForStatement& statement, ScopePtr scope, std::shared_ptr<const List> items,
             Condition condition, int depth);
  std::string_view type_name() const override { return "LoopContext"; }
  std::string description() const override { return "<LoopContext>"; }
  std::optional<Value> attribute(Runtime& runtime, std::string_view name) override;
  Value call(Interpreter& interpreter, Arguments arguments) override;
  bool callable() const override { return true; }

  /// Moves on; null at the end.
  const Value* next();

 private:
  const Value* peek();
  int64_t length();
  Value cycle(Runtime& runtime, const Arguments& arguments) const;
  Value changed(Runtime& runtime, const Arguments& arguments);

  const ForStatement& statement_;
  ScopePtr scope_;
  std::shared_ptr<const List> items_;
  Condition condition_;
  int depth_;
  std::vector<const Value*> accepted_;  ///< items that passed the condition so far
  size_t scanned_ = 0;                  ///< items looked at so far
  int64_t index0_ = -1;
  std::optional<std::vector<Value>> last_changed_;
};

/// range, namespace, dict, cycler, joiner, raise_exception, strftime_now. `now` gives seconds since
/// 1970.
void add_globals(Runtime& runtime, Scope& scope, const std::function<int64_t()>& now);

}  // namespace erne::jinja
