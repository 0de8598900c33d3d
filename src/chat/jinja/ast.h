// The parsed template: expressions and statements as plain data, immutable after parsing and shared
// by all renderings.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "chat/jinja/value.h"

namespace erne::jinja {

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

struct CallArguments {
  std::vector<ExprPtr> positional;
  std::vector<std::pair<std::string, ExprPtr>> named;
  ExprPtr star;         ///< *args, may be null
  ExprPtr double_star;  ///< **kwargs, may be null
};

enum class UnaryOp { kNot, kMinus, kPlus };
enum class BinaryOp { kAnd, kOr, kAdd, kSub, kMul, kDiv, kFloorDiv, kMod, kPow };
enum class CompareOp { kEq, kNe, kLt, kLe, kGt, kGe, kIn, kNotIn };

struct ConstExpr {
  Value value;
};
struct NameExpr {
  std::string name;
};
struct ListExpr {
  std::vector<ExprPtr> items;
  bool tuple;
};
struct DictExpr {
  std::vector<std::pair<ExprPtr, ExprPtr>> entries;
};
struct UnaryExpr {
  UnaryOp op;
  ExprPtr operand;
};
struct BinaryExpr {
  BinaryOp op;
  ExprPtr left, right;
};
struct ConcatExpr {  ///< a ~ b ~ c
  std::vector<ExprPtr> parts;
};
struct CompareExpr {  ///< a < b <= c
  ExprPtr first;
  std::vector<std::pair<CompareOp, ExprPtr>> rest;
};
struct ConditionalExpr {          ///< a if test else b
  ExprPtr test, then, otherwise;  ///< otherwise may be null
};
struct AttributeExpr {  ///< object.name
  ExprPtr object;
  std::string name;
};
struct ItemExpr {  ///< object[index]
  ExprPtr object, index;
};
struct SliceExpr {  ///< object[start:stop:step]; each part may be null
  ExprPtr object, start, stop, step;
};
struct CallExpr {
  ExprPtr callee;
  CallArguments arguments;
};
struct FilterExpr {  ///< input | name(arguments); input is null at the head of a filter or set
                     ///< block
  ExprPtr input;
  std::string name;
  CallArguments arguments;
};
struct TestExpr {  ///< input is name(arguments)
  ExprPtr input;
  std::string name;
  CallArguments arguments;
};

struct Expr {
  int line;
  std::variant<ConstExpr, NameExpr, ListExpr, DictExpr, UnaryExpr, BinaryExpr, ConcatExpr,
               CompareExpr, ConditionalExpr, AttributeExpr, ItemExpr, SliceExpr, CallExpr,
               FilterExpr, TestExpr>
      node;
};

/// What a set, for or with assigns to: a name, a namespace attribute, or a tuple of targets.
struct Target {
  int line;
  std::string name;
  std::string attribute;        ///< "ns.attribute = …" when not empty
  std::vector<Target> members;  ///< a tuple when not empty
};

struct Statement;
using Body = std::vector<Statement>;

struct Parameter {
  std::string name;
  ExprPtr default_value;  ///< may be null
};

/// The body of a macro or of a call block.
struct Callable {
  std::string name;  ///< empty for a call block
  std::vector<Parameter> parameters;
  Body body;
  bool takes_varargs = false;
  bool takes_kwargs = false;
  bool takes_caller = false;
};

struct DataStatement {
  std::string text;
};
struct OutputStatement {
  ExprPtr value;
};
struct IfStatement {
  std::vector<std::pair<ExprPtr, Body>> branches;
  Body otherwise;
};
struct ForStatement {
  Target target;
  ExprPtr iterable;
  ExprPtr condition;  ///< may be null
  Body body, otherwise;
  bool recursive = false;
};
struct SetStatement {
  Target target;
  ExprPtr value;
};
struct SetBlockStatement {
  Target target;
  ExprPtr filter;  ///< may be null
  Body body;
};
struct MacroStatement {
  Callable macro;
};
struct CallStatement {
  Callable caller;
  ExprPtr call;  ///< a CallExpr
};
struct FilterStatement {
  ExprPtr filter;
  Body body;
};
struct WithStatement {
  std::vector<std::pair<Target, ExprPtr>> assignments;
  Body body;
};
struct ScopeStatement {  ///< {% generation %}: its body, in a scope of its own
  Body body;
};
struct BreakStatement {};
struct ContinueStatement {};

struct Statement {
  int line;
  std::variant<DataStatement, OutputStatement, IfStatement, ForStatement, SetStatement,
               SetBlockStatement, MacroStatement, CallStatement, FilterStatement, WithStatement,
               ScopeStatement, BreakStatement, ContinueStatement>
      node;
};

}  // namespace erne::jinja
