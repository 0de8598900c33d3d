#include "base/json.h"

#include <unordered_set>
#include <vector>

#include "base/error.h"

namespace erne {
namespace {

// The parser callback sees each container as it opens; throwing from it stops the parse before the
// stack grows.
template <typename J>
J parse(std::string_view text, std::string_view what, JsonLimits limits) {
  std::vector<std::unordered_set<std::string>> keys;  // of the open objects, outermost first
  const auto guard = [&](int depth, typename J::parse_event_t event, J& parsed) {
    using Event = typename J::parse_event_t;
    if (limits.unique_keys && event == Event::object_start) keys.emplace_back();
    if (limits.unique_keys && event == Event::object_end) keys.pop_back();
    if (limits.unique_keys && event == Event::key &&
        !keys.back().insert(parsed.template get<std::string>()).second) {
      fail(Code::kInvalidArgument, "{}: key {} is given twice", what, parsed.dump(-1, ' ', true));
    }
    if ((event == Event::object_start || event == Event::array_start) &&
        depth >= limits.max_depth) {
      fail(Code::kInvalidArgument, "{}: JSON nested deeper than {} levels", what, limits.max_depth);
    }
    return true;
  };
  try {
    return J::parse(text.begin(), text.end(), guard);
  } catch (const nlohmann::json::parse_error& e) {
    fail(Code::kInvalidArgument, "{}: invalid JSON at byte {}: {}", what, e.byte, e.what());
  } catch (const nlohmann::json::exception& e) {
    fail(Code::kInvalidArgument, "{}: invalid JSON: {}", what, e.what());
  }
}

}  // namespace

Json parse_json(std::string_view text, std::string_view what, JsonLimits limits) {
  return parse<Json>(text, what, limits);
}

OrderedJson parse_ordered_json(std::string_view text, std::string_view what, JsonLimits limits) {
  return parse<OrderedJson>(text, what, limits);
}

std::string dump_json(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string dump_json(const OrderedJson& value) {
  return value.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

}  // namespace erne
