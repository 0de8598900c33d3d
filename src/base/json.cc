#include "base/json.h"

#include <algorithm>
#include <limits>
#include <unordered_set>
#include <vector>

#include "base/error.h"

namespace erne {
namespace {

// Reads the text once, building nothing, and throws where a limit is passed. (A parser callback
// could do this in one pass, but at the end of every object nlohmann then walks all of the parent.)
// Bad syntax only ends the pass: the parse that follows words the error.
class LimitsCheck : public nlohmann::json_sax<Json> {
 public:
  LimitsCheck(std::string_view what, const JsonLimits& limits, size_t max_keys)
      : what_(what), limits_(limits), max_keys_(max_keys) {}

  bool start_object(size_t) override { return open(); }
  bool start_array(size_t) override { return open(); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    Container& object = open_.back();
    if (++object.key_count > max_keys_) {
      fail(Code::kInvalidArgument, "{}: JSON object with more than {} keys", what_, max_keys_);
    }
    if (limits_.unique_keys && !object.keys.insert(name).second) {
      fail(Code::kInvalidArgument, "{}: key {} is given twice", what_,
           Json(name).dump(-1, ' ', true));
    }
    return true;
  }

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception&) override {
    return false;
  }

 private:
  struct Container {
    size_t key_count = 0;
    std::unordered_set<std::string> keys;  // only filled for unique_keys
  };

  bool open() {
    if (open_.size() >= static_cast<size_t>(std::max(limits_.max_depth, 0))) {
      fail(Code::kInvalidArgument, "{}: JSON nested deeper than {} levels", what_,
           limits_.max_depth);
    }
    open_.emplace_back();
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  std::string_view what_;
  const JsonLimits& limits_;
  size_t max_keys_;
  std::vector<Container> open_;  // the open objects and arrays, outermost first
};

template <typename J>
J parse(std::string_view text, std::string_view what, const JsonLimits& limits, size_t max_keys) {
  LimitsCheck check(what, limits, max_keys);
  Json::sax_parse(text.begin(), text.end(), &check);
  try {
    return J::parse(text.begin(), text.end());
  } catch (const nlohmann::json::parse_error& e) {
    fail(Code::kInvalidArgument, "{}: invalid JSON at byte {}: {}", what, e.byte, e.what());
  } catch (const nlohmann::json::exception& e) {
    fail(Code::kInvalidArgument, "{}: invalid JSON: {}", what, e.what());
  }
}

}  // namespace

Json parse_json(std::string_view text, std::string_view what, JsonLimits limits) {
  return parse<Json>(text, what, limits, std::numeric_limits<size_t>::max());
}

OrderedJson parse_ordered_json(std::string_view text, std::string_view what, JsonLimits limits) {
  return parse<OrderedJson>(text, what, limits, limits.max_keys);
}

std::string dump_json(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string dump_json(const OrderedJson& value) {
  return value.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

}  // namespace erne
