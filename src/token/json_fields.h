// Typed access to the JSON of a tokenizer file: every error names the file and the field.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/json.h"

namespace erne {

class JsonFields {
 public:
  /// Parses the text of `file`; throws Error{kCorrupt} where it is not a JSON object.
  static Json parse(std::string_view text, const std::string& file);

  /// `where` names the object in errors ("model", "added_tokens[3]"). Throws Error{kCorrupt} if it
  /// is not an object.
  JsonFields(const Json& object, std::string file, std::string where);

  const std::string& file() const { return file_; }
  const std::string& where() const { return where_; }

  /// Null for a missing or null field.
  const Json* find(const char* key) const;
  const Json& require(const char* key) const;
  std::string text(const char* key) const;
  /// `otherwise` for a missing or null field.
  std::string text_or(const char* key, std::string otherwise) const;
  bool flag_or(const char* key, bool otherwise) const;
  /// A whole number in [0, limit].
  int64_t number(const char* key, int64_t limit) const;
  const Json& array(const char* key) const;
  JsonFields object(const char* key) const;
  /// Throws Error{kUnsupported} naming the first field that is not in `known`.
  void only(std::initializer_list<std::string_view> known) const;

  template <typename... Args>
  [[noreturn]] void corrupt(fmt::format_string<Args...> format, Args&&... args) const {
    fail(Code::kCorrupt, "{}: {}: {}", file_, where_,
         fmt::format(format, std::forward<Args>(args)...));
  }
  template <typename... Args>
  [[noreturn]] void unsupported(fmt::format_string<Args...> format, Args&&... args) const {
    fail(Code::kUnsupported, "{}: {}: {}", file_, where_,
         fmt::format(format, std::forward<Args>(args)...));
  }

 private:
  const Json& object_;
  std::string file_;
  std::string where_;
};

}  // namespace erne
