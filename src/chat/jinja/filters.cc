// Filters over sequences and mappings; those over text and numbers are in filters_text.cc and
// filters_number.cc.
#include "chat/jinja/filters.h"

#include <algorithm>
#include <array>

#include "base/utf8.h"
#include "chat/jinja/arguments.h"
#include "chat/jinja/methods.h"
#include "chat/jinja/operators.h"
#include "chat/jinja/predicates.h"
#include "chat/jinja/unicode.h"

namespace erne::jinja {
namespace {

Value generator(Runtime& runtime, std::vector<Value> items) {
  return make_list(runtime, std::move(items), ListKind::kGenerator);
}

// What sort, unique, min, max and groupby compare: the attribute if one is named, in lower case
// unless told otherwise.
std::vector<Value> sort_keys(Runtime& runtime, const std::vector<Value>& items,
                             const Value* attribute, bool case_sensitive) {
  std::vector<Value> keys;
  for (const Value& item : items) {
    runtime.step();
    Value key =
        attribute == nullptr || attribute->is_none() ? item : get_path(runtime, item, *attribute);
    if (!case_sensitive && key.string() != nullptr) key = lower(runtime, *key.string());
    keys.push_back(std::move(key));
  }
  return keys;
}

// Indices of `keys` in ascending order, equal ones in their old order (also when reversed, as
// Python sorts).
std::vector<size_t> sorted_order(Runtime& runtime, const std::vector<Value>& keys, bool reverse) {
  std::vector<size_t> order(keys.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return reverse ? less(runtime, keys[b], keys[a]) : less(runtime, keys[a], keys[b]);
  });
  return order;
}

Value length(Runtime& runtime, const Value& input, const Arguments&) {
  if (const MarkedText* text = input.string())
    return static_cast<int64_t>(utf8::length(text->bytes()));
  if (const Dict* dict = input.dict()) return static_cast<int64_t>(dict->entries().size());
  if (const List* list = input.list(); list != nullptr && list->kind != ListKind::kGenerator) {
    return static_cast<int64_t>(list->items.size());
  }
  if (input.is_undefined()) return int64_t{0};
  runtime.fail(fmt::format("a {} has no length", input.type_name()));
}

Value default_value(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Bound bound(runtime, "default", arguments, {"default_value", "boolean"});
  const bool use_default = input.is_undefined() || (bound.flag(1, false) && !input.truthy());
  return use_default ? bound.value(0, Value::text("")) : input;
}

Value first(Runtime& runtime, const Value& input, const Arguments&) {
  if (List* list = input.list(); list != nullptr && list->kind == ListKind::kGenerator) {
    if (list->taken < list->items.size()) return list->items[list->taken++];
    return Value::undefined("No first item, sequence was empty.");
  }
  const auto items = iterate(runtime, input);
  return items->items.empty() ? Value::undefined("No first item, sequence was empty.")
                              : items->items.front();
}

Value last(Runtime& runtime, const Value& input, const Arguments&) {
  const List* list = input.list();
  if (list != nullptr && list->kind == ListKind::kGenerator)
    runtime.fail("a generator cannot be reversed; use | list first");
  const auto items = iterate(runtime, input);
  return items->items.empty() ? Value::undefined("No last item, sequence was empty.")
                              : items->items.back();
}

Value to_list(Runtime& runtime, const Value& input, const Arguments&) {
  return make_list(runtime, iterate(runtime, input)->items);
}

Value items(Runtime& runtime, const Value& input, const Arguments&) {
  if (input.is_undefined()) return generator(runtime, {});
  if (input.dict() == nullptr)
    runtime.fail(fmt::format("items needs a mapping, got {}", input.type_name()));
  return generator(runtime, call_method(runtime, input, "items", {}).list()->items);
}

Value dictsort(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Bound bound(runtime, "dictsort", arguments, {"case_sensitive", "by", "reverse"});
  const std::string by = bound.text(1, "key").bytes();
  if (by != "key" && by != "value")
    runtime.fail(fmt::format("dictsort sorts by \"key\" or \"value\", not \"{}\"", by));
  if (input.dict() == nullptr)
    runtime.fail(fmt::format("dictsort needs a mapping, got {}", input.type_name()));
  const Value pairs = call_method(runtime, input, "items", {});
  const std::vector<Value>& entries = pairs.list()->items;
  const Value part(int64_t{by == "key" ? 0 : 1});
  const std::vector<Value> keys = sort_keys(runtime, entries, &part, bound.flag(0, false));
  std::vector<Value> sorted;
  for (const size_t i : sorted_order(runtime, keys, bound.flag(2, false)))
    sorted.push_back(entries[i]);
  return make_list(runtime, std::move(sorted));
}

// "a,b" sorts by a, then b: the key is the list of both. It is a list for one attribute, too, which
// lets items that are equal, be they undefined, have no order.
std::vector<Value> multi_keys(Runtime& runtime, const std::vector<Value>& source,
                              const Value* attribute, bool exact) {
  std::vector<std::vector<Value>> parts(source.size());
  std::vector<Value> paths{attribute == nullptr ? Value(None{}) : *attribute};
  Arguments comma;
  comma.positional.push_back(Value::text(","));
  if (paths.front().string() != nullptr)
    paths = call_method(runtime, paths.front(), "split", comma).list()->items;
  for (const Value& path : paths) {
    const std::vector<Value> keys = sort_keys(runtime, source, &path, exact);
    for (size_t i = 0; i < keys.size(); ++i) parts[i].push_back(keys[i]);
  }
  std::vector<Value> keys;
  for (auto& part : parts) keys.push_back(make_list(runtime, std::move(part)));
  return keys;
}

Value sort(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Bound bound(runtime, "sort", arguments, {"reverse", "case_sensitive", "attribute"});
  const auto source = iterate(runtime, input);
  const std::vector<Value> keys =
      multi_keys(runtime, source->items, bound.get(2), bound.flag(1, false));
  std::vector<Value> sorted;
  for (const size_t i : sorted_order(runtime, keys, bound.flag(0, false)))
    sorted.push_back(source->items[i]);
  return make_list(runtime, std::move(sorted));
}

Value unique(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Bound bound(runtime, "unique", arguments, {"case_sensitive", "attribute"});
  const auto source = iterate(runtime, input);
  const std::vector<Value> keys =
      sort_keys(runtime, source->items, bound.get(1), bound.flag(0, false));
  Dict seen;
  std::vector<Value> kept;
  for (size_t i = 0; i < keys.size(); ++i) {
    if (seen.find(keys[i]) != nullptr) continue;
    set_entry(runtime, seen, keys[i], true);
    kept.push_back(source->items[i]);
  }
  return generator(runtime, std::move(kept));
}

Value extreme(Runtime& runtime, const Value& input, const Arguments& arguments, bool largest) {
  const Bound bound(runtime, largest ? "max" : "min", arguments, {"case_sensitive", "attribute"});
  const auto source = iterate(runtime, input);
  if (source->items.empty()) return Value::undefined("No aggregated item, sequence was empty.");
  const std::vector<Value> keys =
      sort_keys(runtime, source->items, bound.get(1), bound.flag(0, false));
  size_t best = 0;
  for (size_t i = 1; i < keys.size(); ++i) {
    if (largest ? less(runtime, keys[best], keys[i]) : less(runtime, keys[i], keys[best])) best = i;
  }
  return source->items[best];
}

Value sum(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Bound bound(runtime, "sum", arguments, {"attribute", "start"});
  Value total = bound.value(1, int64_t{0});
  const auto source = iterate(runtime, input);
  for (const Value& item : source->items) {
    const bool whole = !bound.given(0) || bound.get(0)->is_none();
    total = binary(runtime, BinaryOp::kAdd, total,
                   whole ? item : get_path(runtime, item, *bound.get(0)));
  }
  return total;
}

Value reverse(Runtime& runtime, const Value& input, const Arguments&) {
  if (input.string() != nullptr) return slice(runtime, input, None{}, None{}, int64_t{-1});
  if (input.is_undefined()) runtime.fail_undefined(input.undefined_reason());
  std::vector<Value> reversed = iterate(runtime, input)->items;
  std::reverse(reversed.begin(), reversed.end());
  return generator(runtime, std::move(reversed));
}

Value map(Runtime& runtime, const Value& input, const Arguments& arguments) {
  std::vector<Value> mapped;
  const auto source = iterate(runtime, input);
  if (arguments.positional.empty()) {
    const Bound bound(runtime, "map", arguments, {"attribute", "default"}, 1);
    for (const Value& item : source->items) {
      runtime.step();
      Value value = get_path(runtime, item, *bound.get(0));
      if (value.is_undefined() && bound.given(1) && !bound.get(1)->is_none()) value = *bound.get(1);
      mapped.push_back(std::move(value));
    }
    return generator(runtime, std::move(mapped));
  }
  const MarkedText* name = arguments.positional.front().string();
  if (name == nullptr) runtime.fail("map needs the name of a filter");
  Arguments rest = arguments;
  rest.positional.erase(rest.positional.begin());
  for (const Value& item : source->items) {
    runtime.step();
    mapped.push_back(apply_filter(runtime, name->bytes(), item, rest));
  }
  return generator(runtime, std::move(mapped));
}

Value select(Runtime& runtime, const Value& input, const Arguments& arguments, bool by_attribute,
             bool wanted) {
  std::vector<Value> kept;
  if (!input.truthy()) return generator(runtime, {});
  Arguments rest = arguments;
  Value attribute;
  const auto take = [&](std::string_view what) {
    if (rest.positional.empty()) runtime.fail(fmt::format("the filter needs {}", what));
    Value value = rest.positional.front();
    rest.positional.erase(rest.positional.begin());
    return value;
  };
  if (by_attribute) attribute = take("an attribute");
  std::optional<Value> test;
  if (!rest.positional.empty()) {
    test = take("a test");
    if (test->string() == nullptr) runtime.fail("the filter needs the name of a test");
  }
  const auto source = iterate(runtime, input);
  for (const Value& item : source->items) {
    runtime.step();
    const Value value = by_attribute ? get_path(runtime, item, attribute) : item;
    const bool passes =
        test ? apply_test(runtime, test->string()->bytes(), value, rest) : value.truthy();
    if (passes == wanted) kept.push_back(item);
  }
  return generator(runtime, std::move(kept));
}

Value batch(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Bound bound(runtime, "batch", arguments, {"linecount", "fill_with"}, 1);
  const int64_t size = bound.integer(0, 1);
  if (size < 1 || size > runtime.limits().range)
    runtime.fail(fmt::format("batch cannot make lines of {}", size));
  std::vector<Value> lines;
  std::vector<Value> line;
  const auto flush = [&] { lines.push_back(make_list(runtime, std::exchange(line, {}))); };
  const auto source = iterate(runtime, input);
  for (const Value& item : source->items) {
    if (static_cast<int64_t>(line.size()) == size) flush();
    line.push_back(item);
  }
  const bool fill = bound.given(1) && !bound.get(1)->is_none();
  if (!line.empty()) {
    while (fill && static_cast<int64_t>(line.size()) < size) line.push_back(*bound.get(1));
    flush();
  }
  return generator(runtime, std::move(lines));
}

Value groupby(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Bound bound(runtime, "groupby", arguments, {"attribute", "default", "case_sensitive"}, 1);
  const auto source = iterate(runtime, input);
  const auto key_of = [&](const Value& item) {
    const Value key = get_path(runtime, item, *bound.get(0));
    return key.is_undefined() && bound.given(1) ? *bound.get(1) : key;
  };
  std::vector<Value> keys;
  for (const Value& item : source->items) keys.push_back(key_of(item));
  const std::vector<Value> folded = sort_keys(runtime, keys, nullptr, bound.flag(2, false));
  std::vector<Value> groups;
  std::vector<Value> group;
  const std::vector<size_t> order = sorted_order(runtime, folded, false);
  for (size_t i = 0; i < order.size(); ++i) {
    group.push_back(source->items[order[i]]);
    if (i + 1 < order.size() && equal(runtime, folded[order[i]], folded[order[i + 1]])) continue;
    const Value key = key_of(group.front());
    Value members = make_list(runtime, std::exchange(group, {}));
    groups.push_back(make_list(runtime, {key, std::move(members)}, ListKind::kTuple));
  }
  return make_list(runtime, std::move(groups));
}

constexpr auto kFilters = std::to_array<FilterEntry>({
    {"batch", batch},
    {"count", length},
    {"d", default_value},
    {"default", default_value},
    {"dictsort", dictsort},
    {"first", first},
    {"groupby", groupby},
    {"items", items},
    {"last", last},
    {"length", length},
    {"list", to_list},
    {"map", map},
    {"max",
     [](Runtime& rt, const Value& v, const Arguments& a) { return extreme(rt, v, a, true); }},
    {"min",
     [](Runtime& rt, const Value& v, const Arguments& a) { return extreme(rt, v, a, false); }},
    {"reject", [](Runtime& rt, const Value& v,
                  const Arguments& a) { return select(rt, v, a, false, false); }},
    {"rejectattr",
     [](Runtime& rt, const Value& v, const Arguments& a) { return select(rt, v, a, true, false); }},
    {"reverse", reverse},
    {"select",
     [](Runtime& rt, const Value& v, const Arguments& a) { return select(rt, v, a, false, true); }},
    {"selectattr",
     [](Runtime& rt, const Value& v, const Arguments& a) { return select(rt, v, a, true, true); }},
    {"sort", sort},
    {"sum", sum},
    {"unique", unique},
});

Filter find_filter(std::string_view name) {
  for (const FilterEntry& entry : kFilters) {
    if (entry.name == name) return entry.filter;
  }
  const Filter text = find_text_filter(name);
  return text != nullptr ? text : find_number_filter(name);
}

}  // namespace

bool is_filter(std::string_view name) { return find_filter(name) != nullptr; }

Value apply_filter(Runtime& runtime, std::string_view name, const Value& input,
                   const Arguments& arguments) {
  const Filter filter = find_filter(name);
  if (filter == nullptr)
    runtime.fail(Code::kUnsupported, fmt::format("filter '{}' is not supported", name));
  return filter(runtime, input, arguments);
}

}  // namespace erne::jinja
