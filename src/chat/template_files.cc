#include "chat/template_files.h"

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "chat/builtin_templates.h"

namespace erne {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxTemplateFile = size_t{16} << 20;

Json read_json(const fs::path& path) {
  if (!fs::exists(path)) return Json::object();
  Json json = parse_json(read_file(path), path.string());
  if (!json.is_object()) fail(Code::kInvalidArgument, "{}: expected a JSON object", path.string());
  return json;
}

void take_named(TemplateFiles& out, const std::string& name, std::string source) {
  if (name == "default") out.source = std::move(source);
  if (name == "tool_use") out.tool_source = std::move(source);
}

// "chat_template": a string, or [{"name": "default", "template": "…"}, …].
void take_template(TemplateFiles& out, const Json& json, const fs::path& path) {
  const auto found = json.find("chat_template");
  if (found == json.end() || found->is_null()) return;
  if (found->is_string()) {
    out.source = found->get<std::string>();
  } else if (found->is_array()) {
    for (const Json& entry : *found) {
      const bool shaped = entry.is_object() && entry.contains("name") &&
                          entry["name"].is_string() && entry.contains("template") &&
                          entry["template"].is_string();
      if (!shaped)
        fail(Code::kInvalidArgument, "{}: chat_template entries need a name and a template",
             path.string());
      take_named(out, entry["name"].get<std::string>(), entry["template"].get<std::string>());
    }
  } else {
    fail(Code::kInvalidArgument, "{}: chat_template must be a string or a list", path.string());
  }
  out.name = path.filename().string();
}

// "bos_token": "<s>" or {"content": "<s>", …}; earlier files win.
void take_special_tokens(TemplateFiles& out, const Json& json) {
  for (const auto& [key, value] : json.items()) {
    if (!key.ends_with("_token")) continue;
    if (value.is_string()) {
      out.special_tokens.emplace(key, value.get<std::string>());
    } else if (value.is_object() && value.contains("content") && value["content"].is_string()) {
      out.special_tokens.emplace(key, value["content"].get<std::string>());
    }
  }
}

bool mentions(const fs::path& folder, const std::string& token) {
  for (const char* name : {"added_tokens.json", "tokenizer_config.json", "special_tokens_map.json",
                           "tokenizer.json"}) {
    const fs::path path = folder / name;
    if (fs::exists(path) && read_file(path).find('"' + token + '"') != std::string::npos)
      return true;
  }
  return false;
}

void take_builtin(TemplateFiles& out, const fs::path& folder) {
  const bool thinking = mentions(folder, "<|im_start|>") && mentions(folder, "<think>");
  out.name = thinking ? "built-in (ERNIE 4.5 Thinking)" : "built-in (ERNIE 4.5)";
  out.source = thinking ? kErnieThinkingTemplate : kErnieTemplate;
}

}  // namespace

TemplateFiles read_template_files(const fs::path& folder) {
  TemplateFiles out;
  const fs::path config_path = folder / "tokenizer_config.json";
  const Json config = read_json(config_path);
  take_special_tokens(out, config);
  take_special_tokens(out, read_json(folder / "special_tokens_map.json"));
  take_template(out, config, config_path);
  take_template(out, read_json(folder / "chat_template.json"), folder / "chat_template.json");
  const fs::path jinja = folder / "chat_template.jinja";
  if (fs::exists(jinja)) {
    out.source = read_file(jinja, kMaxTemplateFile);
    out.name = jinja.filename().string();
  }
  const fs::path tool_use = folder / "additional_chat_templates" / "tool_use.jinja";
  if (fs::exists(tool_use)) out.tool_source = read_file(tool_use, kMaxTemplateFile);
  if (out.source.empty()) take_builtin(out, folder);
  return out;
}

}  // namespace erne
