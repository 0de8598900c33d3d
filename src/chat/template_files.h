// Where a checkpoint folder keeps its chat template and its special tokens.
#pragma once

#include <filesystem>
#include <map>
#include <string>

namespace erne {

struct TemplateFiles {
  std::string name;  ///< the file it came from, or "built-in (…)"
  std::string source;
  std::string tool_source;  ///< the template named "tool_use", if there is one
  std::map<std::string, std::string> special_tokens;  ///< "bos_token" → "<s>", …
};

/// chat_template.jinja, else chat_template.json, else tokenizer_config.json, else a built-in one.
/// Throws Error{kInvalidArgument} naming the file for JSON of the wrong shape.
TemplateFiles read_template_files(const std::filesystem::path& folder);

}  // namespace erne
