#include "chat/jinja/methods.h"

#include <algorithm>
#include <array>
#include <utility>

#include "chat/jinja/arguments.h"
#include "chat/jinja/objects.h"
#include "chat/jinja/text_methods.h"
#include "chat/jinja/unicode.h"

namespace erne::jinja {
namespace {

using Method = Value (*)(Runtime&, const Value& self, const Arguments&);
struct MethodEntry {
  std::string_view name;
  Method method;
};

Value replace_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound(runtime, "replace()", arguments, {"old", "new", "count"}, 2);
  return replace(runtime, *self.string(), bound.string(0), bound.string(1), bound.integer(2, -1));
}

Value join_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound(runtime, "join()", arguments, {"iterable"}, 1);
  std::vector<MarkedText> parts;
  const auto items = iterate(runtime, *bound.get(0));
  for (const Value& item : items->items) {
    if (item.string() == nullptr)
      runtime.fail(fmt::format("join() needs strings, got {}", item.type_name()));
    parts.push_back(*item.string());
  }
  return join(runtime, *self.string(), parts);
}

template <bool (*kTest)(uint32_t)>
Value all_method(Runtime&, const Value& self, const Arguments&) {
  return all_chars(*self.string(), kTest);
}

bool is_alnum(uint32_t c) { return unicode::is_alpha(c) || unicode::is_digit(c); }

constexpr auto kStringMethods = std::to_array<MethodEntry>({
    {"capitalize", [](Runtime& rt, const Value& s, const Arguments&) -> Value { return capitalize(rt, *s.string()); }},
    {"casefold", [](Runtime& rt, const Value& s, const Arguments&) -> Value { return lower(rt, *s.string()); }},
    {"center", [](Runtime& rt, const Value& s, const Arguments& a) { return pad(rt, s, a, Align::kCenter); }},
    {"count", count},
    {"endswith", [](Runtime& rt, const Value& s, const Arguments& a) { return has_affix(rt, s, a, Affix::kSuffix); }},
    {"find", [](Runtime& rt, const Value& s, const Arguments& a) { return find(rt, s, a, From::kLeft, Missing::kMinusOne); }},
    {"format", [](Runtime& rt, const Value& s, const Arguments& a) -> Value { return format_text(rt, *s.string(), a); }},
    {"index", [](Runtime& rt, const Value& s, const Arguments& a) { return find(rt, s, a, From::kLeft, Missing::kError); }},
    {"isalnum", all_method<is_alnum>},
    {"isalpha", all_method<unicode::is_alpha>},
    {"isdecimal", all_method<unicode::is_digit>},
    {"isdigit", all_method<unicode::is_digit>},
    {"islower", [](Runtime&, const Value& s, const Arguments&) -> Value { return is_cased(*s.string(), false); }},
    {"isnumeric", all_method<unicode::is_digit>},
    {"isspace", all_method<unicode::is_space>},
    {"isupper", [](Runtime&, const Value& s, const Arguments&) -> Value { return is_cased(*s.string(), true); }},
    {"join", join_method},
    {"ljust", [](Runtime& rt, const Value& s, const Arguments& a) { return pad(rt, s, a, Align::kLeft); }},
    {"lower", [](Runtime& rt, const Value& s, const Arguments&) -> Value { return lower(rt, *s.string()); }},
    {"lstrip", [](Runtime& rt, const Value& s, const Arguments& a) { return strip_ends(rt, s, a, Side::kLeft); }},
    {"partition", [](Runtime& rt, const Value& s, const Arguments& a) { return partition(rt, s, a, From::kLeft); }},
    {"removeprefix", [](Runtime& rt, const Value& s, const Arguments& a) { return remove_affix(rt, s, a, Affix::kPrefix); }},
    {"removesuffix", [](Runtime& rt, const Value& s, const Arguments& a) { return remove_affix(rt, s, a, Affix::kSuffix); }},
    {"replace", replace_method},
    {"rfind", [](Runtime& rt, const Value& s, const Arguments& a) { return find(rt, s, a, From::kRight, Missing::kMinusOne); }},
    {"rindex", [](Runtime& rt, const Value& s, const Arguments& a) { return find(rt, s, a, From::kRight, Missing::kError); }},
    {"rjust", [](Runtime& rt, const Value& s, const Arguments& a) { return pad(rt, s, a, Align::kRight); }},
    {"rpartition", [](Runtime& rt, const Value& s, const Arguments& a) { return partition(rt, s, a, From::kRight); }},
    {"rsplit", [](Runtime& rt, const Value& s, const Arguments& a) { return split(rt, s, a, From::kRight); }},
    {"rstrip", [](Runtime& rt, const Value& s, const Arguments& a) { return strip_ends(rt, s, a, Side::kRight); }},
    {"split", [](Runtime& rt, const Value& s, const Arguments& a) { return split(rt, s, a, From::kLeft); }},
    {"splitlines",
     [](Runtime& rt, const Value& s, const Arguments& a) {
       const Bound bound(rt, "splitlines()", a, {"keepends"});
       return make_list(rt, split_lines(rt, *s.string(), bound.flag(0, false)));
     }},
    {"startswith", [](Runtime& rt, const Value& s, const Arguments& a) { return has_affix(rt, s, a, Affix::kPrefix); }},
    {"strip", [](Runtime& rt, const Value& s, const Arguments& a) { return strip_ends(rt, s, a, Side::kBoth); }},
    {"swapcase", [](Runtime&, const Value& s, const Arguments&) -> Value { return swap_case(*s.string()); }},
    {"title", [](Runtime&, const Value& s, const Arguments&) -> Value { return title_case(*s.string()); }},
    {"upper", [](Runtime& rt, const Value& s, const Arguments&) -> Value { return upper(rt, *s.string()); }},
    {"zfill", zero_fill},
});

// ---- Dictionaries and lists

enum class Part { kKeys, kValues, kItems };

Value dict_part(Runtime& runtime, const Value& self, Part part) {
  std::vector<Value> items;
  for (const auto& [key, value] : self.dict()->entries()) {
    runtime.step();
    items.push_back(part == Part::kKeys     ? key
                    : part == Part::kValues ? value
                                            : make_list(runtime, {key, value}, ListKind::kTuple));
  }
  return make_list(runtime, std::move(items), ListKind::kView);
}

Value dict_get(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound(runtime, "get()", arguments, {"key", "default"}, 1);
  const Value* found = self.dict()->find(*bound.get(0));
  return found != nullptr ? *found : bound.value(1, None{});
}

constexpr auto kDictMethods = std::to_array<MethodEntry>({
    {"copy", [](Runtime&, const Value& s, const Arguments&) { return s; }},
    {"get", dict_get},
    {"items",
     [](Runtime& rt, const Value& s, const Arguments&) { return dict_part(rt, s, Part::kItems); }},
    {"keys",
     [](Runtime& rt, const Value& s, const Arguments&) { return dict_part(rt, s, Part::kKeys); }},
    {"values",
     [](Runtime& rt, const Value& s, const Arguments&) { return dict_part(rt, s, Part::kValues); }},
});

Value list_count(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound(runtime, "count()", arguments, {"value"}, 1);
  int64_t found = 0;
  for (const Value& item : self.list()->items) found += equal(runtime, item, *bound.get(0)) ? 1 : 0;
  return found;
}

Value list_index(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound(runtime, "index()", arguments, {"value"}, 1);
  const auto& items = self.list()->items;
  for (size_t i = 0; i < items.size(); ++i) {
    if (equal(runtime, items[i], *bound.get(0))) return static_cast<int64_t>(i);
  }
  runtime.fail("the value is not in the list");
}

constexpr auto kListMethods = std::to_array<MethodEntry>({
    {"copy", [](Runtime&, const Value& s, const Arguments&) { return s; }},
    {"count", list_count},
    {"index", list_index},
});

template <size_t kSize>
Method find_in(const std::array<MethodEntry, kSize>& table, std::string_view name) {
  for (const MethodEntry& entry : table) {
    if (entry.name == name) return entry.method;
  }
  return nullptr;
}

// Methods that change their object, which templates may not, and those of Python that no template
// was seen to use.
Value refuse(Runtime& runtime, const Value& self, std::string_view name) {
  runtime.fail(Code::kUnsupported,
               fmt::format("method '{}' of a {} is not available in chat templates", name,
                           self.type_name()));
}

constexpr std::string_view kRefusedOfLists[] = {"append", "clear",  "extend",  "insert",
                                                "pop",    "remove", "reverse", "sort"};
constexpr std::string_view kRefusedOfDicts[] = {"clear",   "fromkeys",   "pop",
                                                "popitem", "setdefault", "update"};
constexpr std::string_view kRefusedOfStrings[] = {"encode",  "expandtabs",   "format_map",
                                                  "isascii", "isidentifier", "isprintable",
                                                  "istitle", "maketrans",    "translate"};

template <size_t kSize>
bool among(const std::string_view (&names)[kSize], std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

bool is_refused(const Value& object, std::string_view name) {
  if (object.string() != nullptr) return among(kRefusedOfStrings, name);
  if (object.dict() != nullptr) return among(kRefusedOfDicts, name);
  return object.list() != nullptr && object.list()->kind == ListKind::kList &&
         among(kRefusedOfLists, name);
}

Method find_method(const Value& object, std::string_view name) {
  if (object.string() != nullptr) return find_in(kStringMethods, name);
  if (object.dict() != nullptr) return find_in(kDictMethods, name);
  const List* list = object.list();
  if (list == nullptr || list->kind == ListKind::kView || list->kind == ListKind::kGenerator)
    return nullptr;
  return find_in(kListMethods, name);
}

}  // namespace

bool has_method(const Value& object, std::string_view name) {
  return find_method(object, name) != nullptr || is_refused(object, name);
}

Value call_method(Runtime& runtime, const Value& object, std::string_view name,
                  const Arguments& arguments) {
  const Method method = find_method(object, name);
  return method != nullptr ? method(runtime, object, arguments) : refuse(runtime, object, name);
}

Value make_method(Runtime& runtime, const Value& object, std::string_view name) {
  return Value(runtime.create<FunctionObject>(
      std::string(name),
      [object, bound = std::string(name)](Runtime& rt, const Arguments& arguments) {
        return call_method(rt, object, bound, arguments);
      }));
}

}  // namespace erne::jinja
