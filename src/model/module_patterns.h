// Lists of modules as compressed-tensors configurations write them (spec quantization.md 11.3):
// exact names ("lm_head"), patterns ("re:.*mlp.gate$", matched from the name's beginning) and
// classes ("Linear").
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace erne {

class ModulePatterns {
 public:
  /// How closely an entry names a module.
  enum class Match : uint8_t { kNone, kClass, kPattern, kName };

  /// Matches nothing.
  ModulePatterns();
  /// Throws Error{kInvalidArgument} beginning with `what` unless `list` is a list of texts, at most
  /// 256 of them patterns, which can be read.
  ModulePatterns(const nlohmann::json& list, std::string_view what);

  /// The closest match of a linear, by its name without ".weight".
  Match match(const std::string& module) const;

 private:
  struct State;
  std::shared_ptr<const State> state_;
};

}  // namespace erne
