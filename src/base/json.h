// JSON from untrusted sources: nlohmann's parser behind a nesting limit and errors that say where.
//
// Include this (and so the heavy json.hpp) only in .cc files; headers use <nlohmann/json_fwd.hpp>.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace erne {

using Json = nlohmann::json;
/// Keeps the order in which keys were written (chat templates and tool schemas show it).
using OrderedJson = nlohmann::ordered_json;

struct JsonLimits {
  int max_depth = 128;
  bool unique_keys = false;  ///< refuse an object that has a key twice, instead of keeping the last
  /// Keys of one object, OrderedJson only: it finds a key by walking all of them, so an object of n
  /// keys costs n^2 to read.
  size_t max_keys = 1024;
};

/// Parses UTF-8 JSON. `what` names the source in errors ("config.json", "request body"). Throws
/// Error{kInvalidArgument} with the byte offset for bad syntax, too deep nesting, too many keys or
/// invalid UTF-8. Last duplicate wins. Time grows with the length of the text alone.
Json parse_json(std::string_view text, std::string_view what, JsonLimits limits = {});
OrderedJson parse_ordered_json(std::string_view text, std::string_view what,
                               JsonLimits limits = {});

/// One line, UTF-8 kept, invalid UTF-8 replaced by U+FFFD (never throws on text).
std::string dump_json(const Json& value);
std::string dump_json(const OrderedJson& value);

}  // namespace erne
