#include "chat/jinja/predicates.h"

#include <array>

#include "chat/jinja/arguments.h"
#include "chat/jinja/filters.h"
#include "chat/jinja/methods.h"
#include "chat/jinja/operators.h"

namespace erne::jinja {
namespace {

using Test = bool (*)(Runtime&, const Value&, const Arguments&);
struct TestEntry {
  std::string_view name;
  Test test;
};

bool remainder_is(Runtime& runtime, const Value& input, const Value& divisor, int64_t wanted) {
  return equal(runtime, binary(runtime, BinaryOp::kMod, input, divisor), wanted);
}

bool is_sequence(const Value& value) {
  const List* list = value.list();
  if (list != nullptr) return list->kind <= ListKind::kRange;
  return value.string() != nullptr || value.dict() != nullptr || value.is_undefined();
}

bool is_iterable(const Value& value) {
  return value.list() != nullptr || value.string() != nullptr || value.dict() != nullptr ||
         value.is_undefined();
}

bool is_cased(Runtime& runtime, const Value& value, std::string_view method) {
  return call_method(runtime, to_text(runtime, value), method, {}).truthy();
}

template <CompareOp kOp>
bool compare_test(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Bound bound(runtime, "the comparison", arguments, {"other"}, 1);
  return compare(runtime, kOp, input, *bound.get(0));
}

bool same_object(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Bound bound(runtime, "sameas", arguments, {"other"}, 1);
  const Value& other = *bound.get(0);
  if (input.type_name() != other.type_name()) return false;
  if (input.list() != nullptr) return input.list() == other.list();
  if (input.dict() != nullptr) return input.dict() == other.dict();
  return equal(runtime, input, other);
}

constexpr auto kTests = std::to_array<TestEntry>({
    {"!=", compare_test<CompareOp::kNe>},
    {"<", compare_test<CompareOp::kLt>},
    {"<=", compare_test<CompareOp::kLe>},
    {"==", compare_test<CompareOp::kEq>},
    {">", compare_test<CompareOp::kGt>},
    {">=", compare_test<CompareOp::kGe>},
    {"boolean", [](Runtime&, const Value& v, const Arguments&) { return v.boolean() != nullptr; }},
    {"callable",
     [](Runtime&, const Value& v, const Arguments&) {
       return v.is_undefined() || (v.object() != nullptr && v.object()->callable());
     }},
    {"defined", [](Runtime&, const Value& v, const Arguments&) { return !v.is_undefined(); }},
    {"divisibleby",
     [](Runtime& rt, const Value& v, const Arguments& a) {
       const Bound bound(rt, "divisibleby", a, {"num"}, 1);
       return remainder_is(rt, v, *bound.get(0), 0);
     }},
    {"eq", compare_test<CompareOp::kEq>},
    {"equalto", compare_test<CompareOp::kEq>},
    {"escaped", [](Runtime&, const Value&, const Arguments&) { return false; }},
    {"even", [](Runtime& rt, const Value& v,
                const Arguments&) { return remainder_is(rt, v, int64_t{2}, 0); }},
    {"false", [](Runtime&, const Value& v,
                 const Arguments&) { return v.boolean() != nullptr && !*v.boolean(); }},
    {"filter", [](Runtime&, const Value& v,
                  const Arguments&) { return v.string() && is_filter(v.string()->bytes()); }},
    {"float", [](Runtime&, const Value& v, const Arguments&) { return v.real() != nullptr; }},
    {"ge", compare_test<CompareOp::kGe>},
    {"greaterthan", compare_test<CompareOp::kGt>},
    {"gt", compare_test<CompareOp::kGt>},
    {"in", compare_test<CompareOp::kIn>},
    {"integer", [](Runtime&, const Value& v, const Arguments&) { return v.integer() != nullptr; }},
    {"iterable", [](Runtime&, const Value& v, const Arguments&) { return is_iterable(v); }},
    {"le", compare_test<CompareOp::kLe>},
    {"lessthan", compare_test<CompareOp::kLt>},
    {"lower",
     [](Runtime& rt, const Value& v, const Arguments&) { return is_cased(rt, v, "islower"); }},
    {"lt", compare_test<CompareOp::kLt>},
    {"mapping", [](Runtime&, const Value& v, const Arguments&) { return v.dict() != nullptr; }},
    {"ne", compare_test<CompareOp::kNe>},
    {"none", [](Runtime&, const Value& v, const Arguments&) { return v.is_none(); }},
    {"number",
     [](Runtime&, const Value& v, const Arguments&) { return v.as_number().has_value(); }},
    {"odd", [](Runtime& rt, const Value& v,
               const Arguments&) { return remainder_is(rt, v, int64_t{2}, 1); }},
    {"sameas", same_object},
    {"sequence", [](Runtime&, const Value& v, const Arguments&) { return is_sequence(v); }},
    {"string", [](Runtime&, const Value& v, const Arguments&) { return v.string() != nullptr; }},
    {"test", [](Runtime&, const Value& v,
                const Arguments&) { return v.string() && is_test(v.string()->bytes()); }},
    {"true", [](Runtime&, const Value& v,
                const Arguments&) { return v.boolean() != nullptr && *v.boolean(); }},
    {"undefined", [](Runtime&, const Value& v, const Arguments&) { return v.is_undefined(); }},
    {"upper",
     [](Runtime& rt, const Value& v, const Arguments&) { return is_cased(rt, v, "isupper"); }},
});

Test find_test(std::string_view name) {
  for (const TestEntry& entry : kTests) {
    if (entry.name == name) return entry.test;
  }
  return nullptr;
}

}  // namespace

bool is_test(std::string_view name) { return find_test(name) != nullptr; }

bool apply_test(Runtime& runtime, std::string_view name, const Value& input,
                const Arguments& arguments) {
  const Test test = find_test(name);
  if (test == nullptr)
    runtime.fail(Code::kUnsupported, fmt::format("test '{}' is not supported", name));
  return test(runtime, input, arguments);
}

}  // namespace erne::jinja
