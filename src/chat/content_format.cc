#include "chat/content_format.h"

#include <algorithm>
#include <set>
#include <string>

namespace erne::jinja {
namespace {

class Search {
 public:
  bool run(const Body& body) {
    return std::any_of(body.begin(), body.end(), [&](const Statement& s) {
      return std::visit([&](const auto& node) { return visit(node); }, s.node);
    });
  }

 private:
  // message.content, message['content'], a name that holds it, any of them filtered.
  bool is_content(const Expr& expr) const {
    if (const auto* attribute = std::get_if<AttributeExpr>(&expr.node))
      return attribute->name == "content";
    if (const auto* name = std::get_if<NameExpr>(&expr.node)) return names_.contains(name->name);
    if (const auto* filter = std::get_if<FilterExpr>(&expr.node)) {
      return filter->input != nullptr && is_content(*filter->input);
    }
    if (const auto* item = std::get_if<ItemExpr>(&expr.node)) {
      const auto* key = std::get_if<ConstExpr>(&item->index->node);
      return key != nullptr && key->value.string() != nullptr &&
             key->value.string()->bytes() == "content";
    }
    return false;
  }

  bool visit(const DataStatement&) { return false; }
  bool visit(const OutputStatement&) { return false; }
  bool visit(const BreakStatement&) { return false; }
  bool visit(const ContinueStatement&) { return false; }
  bool visit(const IfStatement& s) {
    return std::any_of(s.branches.begin(), s.branches.end(),
                       [&](const auto& branch) { return run(branch.second); }) ||
           run(s.otherwise);
  }
  bool visit(const ForStatement& s) {
    return is_content(*s.iterable) || run(s.body) || run(s.otherwise);
  }
  bool visit(const SetStatement& s) {
    if (is_content(*s.value)) names_.insert(s.target.name);
    return false;
  }
  bool visit(const SetBlockStatement& s) { return run(s.body); }
  bool visit(const MacroStatement& s) { return run(s.macro.body); }
  bool visit(const CallStatement& s) { return run(s.caller.body); }
  bool visit(const FilterStatement& s) { return run(s.body); }
  bool visit(const WithStatement& s) {
    for (const auto& [target, value] : s.assignments) {
      if (is_content(*value)) names_.insert(target.name);
    }
    return run(s.body);
  }
  bool visit(const ScopeStatement& s) { return run(s.body); }

  std::set<std::string> names_{"content"};  // macros that render parts take them under this name
};

}  // namespace

bool iterates_content(const Body& body) { return Search().run(body); }

}  // namespace erne::jinja
