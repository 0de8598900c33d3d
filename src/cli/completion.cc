// `erne completion bash`: a completion script written from the program's own tree of verbs and
// flags, so that it cannot be stale. The script needs bash alone, not the bash-completion package.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "cli/verbs.h"

namespace erne::cli {
namespace {

// What stands where in the script: per verb path its words, per flag what follows.
struct Tables {
  std::string paths;    // case pattern of every verb path
  std::string words;    // verb path -> sub-verbs and flags
  std::string choices;  // "path flag" -> fixed values
  std::vector<std::string> file_flags, value_flags;
};

// Single quotes keep everything in bash but the quote itself.
std::string bash_quoted(std::string_view text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'') {
      out += "'\\''";
    } else {
      out += c;
    }
  }
  return out + "'";
}

bool ends_with_any(std::string_view text, std::initializer_list<std::string_view> ends) {
  return std::any_of(ends.begin(), ends.end(),
                     [&](std::string_view end) { return text.ends_with(end); });
}

// "TEXT:{a,b}" (a set of CLI11's IsMember, or a type name in braces) -> "a b"; empty for any other
// type.
std::string choices_of(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const size_t open = type.find('{'), close = type.rfind('}');
  if (open == std::string::npos || close == std::string::npos || close < open) return {};
  std::string list = type.substr(open + 1, close - open - 1);
  std::replace(list.begin(), list.end(), ',', ' ');
  return list;
}

bool takes_file(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  for (const std::string_view word : {"FILE", "DIR", "PATH"}) {
    if (type.find(word) != std::string::npos) return true;
  }
  return std::any_of(option.get_lnames().begin(), option.get_lnames().end(),
                     [](const std::string& name) {
                       return ends_with_any(name, {"-path", "-file", "-dir", "-filename"});
                     });
}

std::vector<std::string> flag_names(const CLI::Option& option) {
  std::vector<std::string> names;
  for (const std::string& name : option.get_lnames()) names.push_back("--" + name);
  for (const std::string& name : option.get_snames()) names.push_back("-" + name);
  return names;
}

void add_option(Tables& tables, const std::string& path, const CLI::Option& option,
                std::string& words) {
  const bool hidden = option.get_group().empty();  // refused flags: not offered
  const std::string choices = choices_of(option);
  for (const std::string& name : flag_names(option)) {
    if (!hidden) words += " " + name;
    if (option.get_items_expected_max() == 0 || hidden) continue;
    const std::string key = bash_quoted(path + " " + name);
    if (!choices.empty()) {
      tables.choices += fmt::format("    {}) reply={} ;;\n", key, bash_quoted(choices));
    } else {
      (takes_file(option) ? tables.file_flags : tables.value_flags).push_back(key);
    }
  }
}

void add_verb(Tables& tables, const std::string& path, const CLI::App& app) {
  std::string words;
  for (const CLI::App* child : app.get_subcommands([](const CLI::App*) { return true; })) {
    words += " " + child->get_name();
    const std::string child_path = path + " " + child->get_name();
    tables.paths += (tables.paths.empty() ? "" : " | ") + bash_quoted(child_path);
    add_verb(tables, child_path, *child);
  }
  for (const CLI::Option* option : app.get_options()) add_option(tables, path, *option, words);
  tables.words += fmt::format("    {}) words={} ;;\n", bash_quoted(path),
                              bash_quoted(words.empty() ? words : words.substr(1)));
}

constexpr std::string_view kScriptStart =
    R"(# bash completion for erne, written by `erne completion bash`.
_erne() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev='' path=erne words='' reply='' i
  ((COMP_CWORD > 0)) && prev=${COMP_WORDS[COMP_CWORD - 1]}
  # bash splits --flag=value at the equals sign.
  if [[ $cur == = ]]; then
    cur=''
  elif [[ $prev == = ]] && ((COMP_CWORD > 1)); then
    prev=${COMP_WORDS[COMP_CWORD - 2]}
  fi
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$path ${COMP_WORDS[i]}" in
)";

std::string bash_script(const CLI::App& root) {
  Tables tables;
  add_verb(tables, "erne", root);
  std::string script(kScriptStart);
  script +=
      fmt::format("      {}) path+=\" ${{COMP_WORDS[i]}}\" ;;\n    esac\n  done\n", tables.paths);
  script += "  case \"$path $prev\" in\n" + tables.choices;
  if (!tables.file_flags.empty()) {
    script += fmt::format("    {})\n      compopt -o filenames 2>/dev/null\n",
                          fmt::join(tables.file_flags, " | "));
    script += "      mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n      return ;;\n";
  }
  if (!tables.value_flags.empty()) {
    script += fmt::format("    {}) return ;;\n", fmt::join(tables.value_flags, " | "));
  }
  script +=
      "  esac\n  if [[ -n $reply ]]; then\n    mapfile -t COMPREPLY < <(compgen -W \"$reply\" -- "
      "\"$cur\")\n";
  script += "    return\n  fi\n  case \"$path\" in\n" + tables.words + "  esac\n";
  script += "  if [[ $cur != -* ]]; then\n";
  script +=
      "    local verbs='' word\n    for word in $words; do [[ $word == -* ]] || verbs+=\" $word\"; "
      "done\n";
  script += "    [[ -n $verbs ]] && words=$verbs\n  fi\n";
  script +=
      "  mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n}\ncomplete -F _erne erne\n";
  return script;
}

}  // namespace

void add_completion(CLI::App& app) {
  CLI::App* completion = app.add_subcommand("completion", "print a shell completion script");
  completion->require_subcommand(1);
  CLI::App* bash = completion->add_subcommand("bash", "completion for bash");
  completion->footer(
      "Examples:\n"
      "  source <(erne completion bash)                  # this shell\n"
      "  erne completion bash > ~/.local/share/bash-completion/completions/erne    # every shell");
  bash->callback([&app] { fmt::print("{}", bash_script(app)); });
}

}  // namespace erne::cli
