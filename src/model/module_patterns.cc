#include "model/module_patterns.h"

#include <regex>
#include <unordered_set>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "model/config_keys.h"

namespace erne {
namespace {

constexpr size_t kMaxPatterns = 256;
constexpr size_t kMaxPatternBytes = 512;
constexpr std::string_view kPattern = "re:";

// Breadth first: a hostile pattern costs no more than its length times the name's.
std::regex compile(const std::string& pattern, std::string_view what) {
  if (pattern.size() > kMaxPatternBytes)
    fail(Code::kInvalidArgument, "{}: a pattern of {} bytes; at most {} are read", what,
         pattern.size(), kMaxPatternBytes);
  try {
    return std::regex(pattern, std::regex::ECMAScript | std::regex_constants::__polynomial);
  } catch (const std::regex_error& e) {
    fail(Code::kInvalidArgument, "{}: '{}' is not a pattern that can be read: {}", what,
         shown(pattern), e.what());
  }
}

}  // namespace

struct ModulePatterns::State {
  std::unordered_set<std::string> names;
  std::vector<std::regex> patterns;
};

ModulePatterns::ModulePatterns() : state_(std::make_shared<State>()) {}

ModulePatterns::ModulePatterns(const nlohmann::json& list, std::string_view what) {
  auto state = std::make_shared<State>();
  if (!list.is_array())
    fail(Code::kInvalidArgument, "{} is {}; a list of names is valid", what, shown(list));
  for (const Json& entry : list) {
    if (!entry.is_string())
      fail(Code::kInvalidArgument, "{}: {} is no name; texts are valid", what, shown(entry));
    const auto& text = entry.get_ref<const std::string&>();
    if (!text.starts_with(kPattern)) {
      state->names.insert(text);
      continue;
    }
    if (state->patterns.size() == kMaxPatterns)
      fail(Code::kInvalidArgument, "{} has more than {} patterns", what, kMaxPatterns);
    state->patterns.push_back(compile(text.substr(kPattern.size()), what));
  }
  state_ = std::move(state);
}

ModulePatterns::Match ModulePatterns::match(const std::string& module) const {
  if (state_->names.contains(module)) return Match::kName;
  for (const std::regex& pattern : state_->patterns) {
    if (std::regex_search(module, pattern, std::regex_constants::match_continuous))
      return Match::kPattern;
  }
  return state_->names.contains("Linear") ? Match::kClass : Match::kNone;
}

}  // namespace erne
