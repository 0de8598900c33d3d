// Values: construction, truth, equality, order, iteration.
#include "chat/jinja/value.h"

#include <algorithm>
#include <cmath>

#include "base/utf8.h"

namespace erne::jinja {
namespace {

// Containers nested deeper than this are refused: recursion over a value is then bounded. JSON from
// requests is at most 128 deep (base/json.h), a template may wrap it.
constexpr int kMaxValueDepth = 200;
constexpr size_t kIndexedFrom = 16;

bool equal_lists(Runtime& runtime, const List& a, const List& b) {
  // Views and generators compare by identity in Python; kinds never equal each other.
  if (a.kind != b.kind || a.items.size() != b.items.size()) return false;
  if (a.kind == ListKind::kGenerator) return &a == &b;
  for (size_t i = 0; i < a.items.size(); ++i) {
    if (!equal(runtime, a.items[i], b.items[i])) return false;
  }
  return true;
}

bool equal_dicts(Runtime& runtime, const Dict& a, const Dict& b) {
  if (a.entries().size() != b.entries().size()) return false;
  for (const auto& [key, value] : a.entries()) {
    const Value* other = b.find(key);
    if (other == nullptr || !equal(runtime, value, *other)) return false;
  }
  return true;
}

// Equality of dictionary keys: scalars and tuples of them.
bool same_key(const Value& a, const Value& b) {
  if (const MarkedText* text = a.string())
    return b.string() != nullptr && text->bytes() == b.string()->bytes();
  if (a.as_integer() && b.as_integer()) return *a.as_integer() == *b.as_integer();
  if (a.as_number() && b.as_number()) return *a.as_number() == *b.as_number();
  if (a.is_none()) return b.is_none();
  if (a.is_undefined()) return b.is_undefined();
  if (a.object() != nullptr) return a.object() == b.object();
  const List* x = a.list();
  const List* y = b.list();
  if (x == nullptr || y == nullptr || x->items.size() != y->items.size()) return false;
  return std::equal(x->items.begin(), x->items.end(), y->items.begin(), same_key);
}

bool hashable(const Value& value) {
  if (value.dict() != nullptr) return false;
  const List* list = value.list();
  if (list == nullptr) return true;
  return list->kind == ListKind::kTuple &&
         std::all_of(list->items.begin(), list->items.end(), hashable);
}

[[noreturn]] void no_order(Runtime& runtime, const Value& a, const Value& b) {
  runtime.fail(fmt::format("'{}' and '{}' have no order", a.type_name(), b.type_name()));
}

std::vector<Value> characters(Runtime& runtime, const MarkedText& text) {
  std::vector<Value> items;
  for (size_t at = 0; at < text.size();) {
    const auto size = static_cast<size_t>(utf8::decode(text.bytes(), at).size);
    runtime.charge(sizeof(MarkedText));
    items.emplace_back(text.slice(at, at + size));
    at += size;
  }
  return items;
}

}  // namespace

const Value* Dict::find(std::string_view key) const {
  const auto at = position(key);
  return at ? &entries_[*at].second : nullptr;
}

const Value* Dict::find(const Value& key) const {
  const auto at = position(key);
  return at ? &entries_[*at].second : nullptr;
}

std::optional<size_t> Dict::position(std::string_view key) const {
  if (!strings_.empty()) {
    const auto found = strings_.find(std::string(key));
    if (found == strings_.end()) return std::nullopt;
    return found->second;
  }
  for (size_t i = 0; i < entries_.size(); ++i) {
    const MarkedText* text = entries_[i].first.string();
    if (text != nullptr && text->bytes() == key) return i;
  }
  return std::nullopt;
}

std::optional<size_t> Dict::position(const Value& key) const {
  if (const MarkedText* text = key.string()) return position(text->bytes());
  for (size_t i = 0; i < entries_.size(); ++i) {
    if (same_key(entries_[i].first, key)) return i;
  }
  return std::nullopt;
}

void Dict::set(Value key, Value value) {
  depth = std::max({depth, value.depth() + 1, key.depth() + 1});
  if (const auto at = position(key)) {
    entries_[*at].second = std::move(value);
    return;
  }
  entries_.emplace_back(std::move(key), std::move(value));
  if (entries_.size() == kIndexedFrom) {
    for (size_t i = 0; i < entries_.size(); ++i) {
      if (const MarkedText* text = entries_[i].first.string()) strings_.emplace(text->bytes(), i);
    }
  } else if (entries_.size() > kIndexedFrom) {
    if (const MarkedText* text = entries_.back().first.string())
      strings_.emplace(text->bytes(), entries_.size() - 1);
  }
}

std::optional<Value> Object::attribute(Runtime&, std::string_view) { return std::nullopt; }

Value Object::call(Interpreter&, Arguments) { return {}; }

Value Value::undefined(std::string why) {
  Value value;
  value.data_ = Undefined{std::make_shared<const std::string>(std::move(why))};
  return value;
}

const std::shared_ptr<const MarkedText>* Value::shared_string() const {
  return std::get_if<std::shared_ptr<const MarkedText>>(&data_);
}

const MarkedText* Value::string() const {
  const auto* text = shared_string();
  return text == nullptr ? nullptr : text->get();
}

List* Value::list() const {
  const auto* list = shared_list();
  return list == nullptr ? nullptr : list->get();
}

const Dict* Value::dict() const {
  const auto* dict = std::get_if<std::shared_ptr<const Dict>>(&data_);
  return dict == nullptr ? nullptr : dict->get();
}

Object* Value::object() const {
  Object* const* object = std::get_if<Object*>(&data_);
  return object == nullptr ? nullptr : *object;
}

std::optional<int64_t> Value::as_integer() const {
  if (const int64_t* i = integer()) return *i;
  if (const bool* b = boolean()) return *b ? 1 : 0;
  return std::nullopt;
}

std::optional<double> Value::as_number() const {
  if (const double* d = real()) return *d;
  if (const auto i = as_integer()) return static_cast<double>(*i);
  return std::nullopt;
}

bool Value::truthy() const {
  if (is_undefined() || is_none()) return false;
  if (const auto number = as_number()) return *number != 0;
  if (const MarkedText* text = string()) return !text->empty();
  if (const List* items = list())
    return items->kind == ListKind::kGenerator || !items->items.empty();
  if (const Dict* entries = dict()) return !entries->entries().empty();
  return true;
}

std::string_view Value::type_name() const {
  if (is_undefined()) return "Undefined";
  if (is_none()) return "NoneType";
  if (boolean()) return "bool";
  if (integer()) return "int";
  if (real()) return "float";
  if (string()) return "str";
  if (dict()) return "dict";
  if (const Object* o = object()) return o->type_name();
  switch (list()->kind) {
    case ListKind::kList:
      return "list";
    case ListKind::kTuple:
      return "tuple";
    case ListKind::kRange:
      return "range";
    case ListKind::kView:
      return "dict view";
    case ListKind::kGenerator:
      return "generator";
  }
  return "list";
}

std::string Value::undefined_reason() const {
  const auto* undefined = std::get_if<Undefined>(&data_);
  return undefined != nullptr && undefined->why ? *undefined->why : "the value is undefined";
}

int Value::depth() const {
  if (const List* items = list()) return items->depth;
  if (const Dict* entries = dict()) return entries->depth;
  return 0;
}

Value make_list(Runtime& runtime, std::vector<Value> items, ListKind kind) {
  runtime.charge(sizeof(List) + items.size() * sizeof(Value));
  auto list = std::make_shared<List>();
  list->kind = kind;
  for (const Value& item : items) list->depth = std::max(list->depth, item.depth() + 1);
  if (list->depth > kMaxValueDepth)
    runtime.fail(fmt::format("lists nested deeper than {} levels", kMaxValueDepth));
  list->items = std::move(items);
  return list;
}

void set_entry(Runtime& runtime, Dict& dict, Value key, Value value) {
  if (!hashable(key)) runtime.fail(fmt::format("a {} cannot be a dictionary key", key.type_name()));
  if (!key.string()) runtime.step(static_cast<int64_t>(dict.entries().size()));
  runtime.charge(2 * sizeof(Value));
  dict.set(std::move(key), std::move(value));
  if (dict.depth > kMaxValueDepth) {
    runtime.fail(fmt::format("dictionaries nested deeper than {} levels", kMaxValueDepth));
  }
}

bool equal(Runtime& runtime, const Value& a, const Value& b) {
  runtime.step();
  if (a.list() != nullptr && b.list() != nullptr) return equal_lists(runtime, *a.list(), *b.list());
  if (a.dict() != nullptr && b.dict() != nullptr) return equal_dicts(runtime, *a.dict(), *b.dict());
  if (a.list() != nullptr || a.dict() != nullptr) return false;
  return same_key(a, b);
}

bool less(Runtime& runtime, const Value& a, const Value& b) {
  runtime.step();
  if (a.is_undefined()) runtime.fail_undefined(a.undefined_reason());
  if (b.is_undefined()) runtime.fail_undefined(b.undefined_reason());
  if (a.string() != nullptr && b.string() != nullptr)
    return a.string()->bytes() < b.string()->bytes();
  if (a.as_integer() && b.as_integer()) return *a.as_integer() < *b.as_integer();
  if (a.as_number() && b.as_number()) return *a.as_number() < *b.as_number();
  const List* x = a.list();
  const List* y = b.list();
  const bool ordered = x != nullptr && y != nullptr && x->kind == y->kind &&
                       (x->kind == ListKind::kList || x->kind == ListKind::kTuple);
  if (!ordered) no_order(runtime, a, b);
  for (size_t i = 0; i < std::min(x->items.size(), y->items.size()); ++i) {
    if (!equal(runtime, x->items[i], y->items[i])) return less(runtime, x->items[i], y->items[i]);
  }
  return x->items.size() < y->items.size();
}

std::shared_ptr<const List> iterate(Runtime& runtime, const Value& value) {
  if (const auto* shared = value.shared_list()) {
    List& list = **shared;
    if (list.kind != ListKind::kGenerator) return *shared;
    auto rest = std::make_shared<List>();
    rest->depth = list.depth;
    rest->items.assign(list.items.begin() + static_cast<std::ptrdiff_t>(list.taken),
                       list.items.end());
    list.taken = list.items.size();
    return rest;
  }
  auto items = std::make_shared<List>();
  if (const Dict* dict = value.dict()) {
    for (const auto& entry : dict->entries()) items->items.push_back(entry.first);
  } else if (const MarkedText* text = value.string()) {
    items->items = characters(runtime, *text);
  } else if (!value.is_undefined()) {
    runtime.fail(fmt::format("'{}' cannot be iterated", value.type_name()));
  }
  runtime.charge(items->items.size() * sizeof(Value));
  return items;
}

}  // namespace erne::jinja
