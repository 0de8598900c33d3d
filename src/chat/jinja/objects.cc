#include "chat/jinja/objects.h"

#include <ctime>

#include "chat/jinja/arguments.h"
#include "chat/jinja/operators.h"

namespace erne::jinja {

std::optional<Value> NamespaceObject::attribute(Runtime&, std::string_view name) {
  for (const auto& [candidate, value] : attributes_) {
    if (candidate == name) return value;
  }
  return std::nullopt;
}

void NamespaceObject::set(Runtime& runtime, std::string_view name, Value value) {
  if (name.starts_with('_'))
    runtime.fail(fmt::format("a namespace attribute cannot begin with '_': '{}'", name));
  runtime.step(static_cast<int64_t>(attributes_.size()));
  for (auto& [candidate, old] : attributes_) {
    if (candidate != name) continue;
    old = std::move(value);
    return;
  }
  runtime.charge(name.size() + sizeof(Value));
  attributes_.emplace_back(name, std::move(value));
}

Value MacroObject::call(Interpreter& interpreter, Arguments arguments) {
  return interpreter.call_macro(macro_, scope_, std::move(arguments));
}

std::optional<Value> MacroObject::attribute(Runtime&, std::string_view name) {
  if (name == "name") return Value::text(macro_.name);
  return std::nullopt;
}

Value FunctionObject::call(Interpreter& interpreter, Arguments arguments) {
  return function_(interpreter.runtime(), arguments);
}

LoopObject::LoopObject(const ForStatement& statement, ScopePtr scope,
                       std::shared_ptr<const List> items, Condition condition, int depth)
    : statement_(statement),
      scope_(std::move(scope)),
      items_(std::move(items)),
      condition_(std::move(condition)),
      depth_(depth) {}

const Value* LoopObject::peek() {
  const auto wanted = static_cast<size_t>(index0_ + 1);
  while (accepted_.size() <= wanted && scanned_ < items_->items.size()) {
    const Value& item = items_->items[scanned_++];
    if (!condition_ || condition_(item)) accepted_.push_back(&item);
  }
  return accepted_.size() > wanted ? accepted_[wanted] : nullptr;
}

const Value* LoopObject::next() {
  const Value* item = peek();
  if (item != nullptr) ++index0_;
  return item;
}

int64_t LoopObject::length() {
  if (!condition_) return static_cast<int64_t>(items_->items.size());
  while (scanned_ < items_->items.size()) {
    const Value& item = items_->items[scanned_++];
    if (condition_(item)) accepted_.push_back(&item);
  }
  return static_cast<int64_t>(accepted_.size());
}

Value LoopObject::cycle(Runtime& runtime, const Arguments& arguments) const {
  if (arguments.positional.empty()) runtime.fail("loop.cycle() needs items");
  return arguments.positional[static_cast<size_t>(index0_) % arguments.positional.size()];
}

Value LoopObject::changed(Runtime& runtime, const Arguments& arguments) {
  bool same = last_changed_ && last_changed_->size() == arguments.positional.size();
  for (size_t i = 0; same && i < arguments.positional.size(); ++i) {
    same = equal(runtime, (*last_changed_)[i], arguments.positional[i]);
  }
  last_changed_ = arguments.positional;
  return !same;
}

std::optional<Value> LoopObject::attribute(Runtime& runtime, std::string_view name) {
  if (name == "index") return index0_ + 1;
  if (name == "index0") return index0_;
  if (name == "first") return index0_ == 0;
  if (name == "last") return peek() == nullptr;
  if (name == "length") return length();
  if (name == "revindex") return length() - index0_;
  if (name == "revindex0") return length() - index0_ - 1;
  if (name == "depth") return int64_t{depth_} + 1;
  if (name == "depth0") return int64_t{depth_};
  if (name == "previtem") {
    if (index0_ > 0) return *accepted_[static_cast<size_t>(index0_ - 1)];
    return Value::undefined("there is no previous item");
  }
  if (name == "nextitem") {
    const Value* item = peek();
    return item != nullptr ? *item : Value::undefined("there is no next item");
  }
  if (name == "cycle") {
    return Value(runtime.create<FunctionObject>(
        "cycle", [this](Runtime& rt, const Arguments& arguments) { return cycle(rt, arguments); }));
  }
  if (name == "changed") {
    return Value(runtime.create<FunctionObject>(
        "changed",
        [this](Runtime& rt, const Arguments& arguments) { return changed(rt, arguments); }));
  }
  return std::nullopt;
}

Value LoopObject::call(Interpreter& interpreter, Arguments arguments) {
  const Bound bound(interpreter.runtime(), "loop()", arguments, {"iterable"}, 1);
  return interpreter.call_loop(statement_, scope_, *bound.get(0), depth_ + 1);
}

namespace {

Value make_range(Runtime& runtime, const Arguments& arguments) {
  const Bound bound(runtime, "range()", arguments, {"start", "stop", "step"}, 1);
  const bool only_stop = !bound.given(1);
  const int64_t start = only_stop ? 0 : bound.integer(0, 0);
  const int64_t stop = only_stop ? bound.integer(0, 0) : bound.integer(1, 0);
  const int64_t step = bound.integer(2, 1);
  if (step == 0) runtime.fail("range() needs a step other than zero");
  const double count =
      (static_cast<double>(stop) - static_cast<double>(start)) / static_cast<double>(step);
  if (count > static_cast<double>(runtime.limits().range)) {
    runtime.fail(fmt::format("range() may have at most {} items", runtime.limits().range));
  }
  std::vector<Value> items;
  if (count > 0) {
    const auto size = static_cast<int64_t>(count) + 1;
    for (int64_t i = 0, at = start; i < size && (step > 0 ? at < stop : at > stop); ++i) {
      items.emplace_back(at);
      if (__builtin_add_overflow(at, step, &at)) break;
    }
  }
  runtime.step(static_cast<int64_t>(items.size()));
  return make_list(runtime, std::move(items), ListKind::kRange);
}

// dict() and namespace() take a mapping or pairs, and names.
std::vector<std::pair<Value, Value>> mapping_arguments(Runtime& runtime, std::string_view callee,
                                                       const Arguments& arguments) {
  std::vector<std::pair<Value, Value>> entries;
  if (arguments.positional.size() > 1)
    runtime.fail(fmt::format("{} takes at most one argument", callee));
  if (!arguments.positional.empty()) {
    const Value& source = arguments.positional.front();
    if (const Dict* dict = source.dict()) {
      entries = dict->entries();
    } else {
      const auto pairs = iterate(runtime, source);
      for (const Value& pair : pairs->items) {
        const auto parts = iterate(runtime, pair);
        if (parts->items.size() != 2) runtime.fail(fmt::format("{} needs pairs", callee));
        entries.emplace_back(parts->items[0], parts->items[1]);
      }
    }
  }
  for (const auto& [name, value] : arguments.named) entries.emplace_back(Value::text(name), value);
  runtime.step(static_cast<int64_t>(entries.size()));
  return entries;
}

Value make_dict(Runtime& runtime, const Arguments& arguments) {
  auto dict = std::make_shared<Dict>();
  for (auto& [key, value] : mapping_arguments(runtime, "dict()", arguments)) {
    set_entry(runtime, *dict, std::move(key), std::move(value));
  }
  return std::shared_ptr<const Dict>(std::move(dict));
}

Value make_namespace(Runtime& runtime, const Arguments& arguments) {
  auto* space = runtime.create<NamespaceObject>();
  for (auto& [key, value] : mapping_arguments(runtime, "namespace()", arguments)) {
    if (key.string() == nullptr) runtime.fail("namespace() needs names that are strings");
    space->set(runtime, key.string()->bytes(), std::move(value));
  }
  return Value(space);
}

Value raise_exception(Runtime& runtime, const Arguments& arguments) {
  const Bound bound(runtime, "raise_exception()", arguments, {"message"}, 1);
  runtime.fail(bound.text(0, "").bytes());
}

Value strftime(Runtime& runtime, const Arguments& arguments, int64_t now) {
  constexpr size_t kMaxFormat = 256;
  const Bound bound(runtime, "strftime_now()", arguments, {"format"}, 1);
  const MarkedText& format = bound.string(0);
  if (format.size() > kMaxFormat)
    runtime.fail(fmt::format("strftime_now() takes at most {} bytes", kMaxFormat));
  const std::time_t seconds = now;
  std::tm local{};
  localtime_r(&seconds, &local);
  char text[16 * kMaxFormat];
  const size_t size = std::strftime(text, sizeof(text), format.bytes().c_str(), &local);
  MarkedText out;
  out.append(std::string_view(text, size), format.any_untrusted());
  return out;
}

}  // namespace

void add_globals(Runtime& runtime, Scope& scope, const std::function<int64_t()>& now) {
  const auto add = [&](std::string_view name, FunctionObject::Function function) {
    scope.set(name, Value(runtime.create<FunctionObject>(std::string(name), std::move(function))));
  };
  add("range", make_range);
  add("dict", make_dict);
  add("namespace", make_namespace);
  add("raise_exception", raise_exception);
  add("strftime_now",
      [now](Runtime& rt, const Arguments& arguments) { return strftime(rt, arguments, now()); });
}

}  // namespace erne::jinja
