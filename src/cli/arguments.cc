#include "cli/arguments.h"

#include <yaml-cpp/yaml.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <set>

#include "base/error.h"
#include "base/file.h"

namespace erne::cli {
namespace {

using Words = std::vector<std::string>;

/// Long names of a verb with their options; names of switched-off flags ("!--disable-x") among
/// them.
std::map<std::string, const CLI::Option*> long_flags(const CLI::App& app) {
  std::map<std::string, const CLI::Option*> flags;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) flags["--" + name] = option;
  }
  return flags;
}

size_t edits(const std::string& a, const std::string& b) {  // Levenshtein, one row
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

/// The full name of a long flag, "=value" kept apart.
std::string complete(const std::string& typed, const CLI::App& app) {
  const auto flags = long_flags(app);
  if (flags.contains(typed)) return typed;
  std::set<const CLI::Option*> options;
  Words names;
  for (auto it = flags.lower_bound(typed); it != flags.end() && it->first.starts_with(typed);
       ++it) {
    options.insert(it->second);
    names.push_back(it->first);
  }
  if (options.size() == 1) return names.front();
  if (options.size() > 1) {
    fail(Code::kInvalidArgument, "{} is the beginning of several flags: {}", typed,
         fmt::join(names, ", "));
  }
  Words all;
  for (const auto& [name, option] : flags) all.push_back(name);
  const std::string near = nearest(typed, all);
  const std::string verb = app.get_name();
  if (near.empty())
    fail(Code::kInvalidArgument, "{}: unknown flag; see erne {} --help", typed, verb);
  fail(Code::kInvalidArgument, "{}: unknown flag; did you mean {}? See erne {} --help", typed, near,
       verb);
}

/// One YAML pair as arguments: lists give several values, true a bare flag, false nothing.
void append_pair(const std::string& key, const YAML::Node& value, const CLI::App& app, Words& out) {
  const std::string flag = complete("--" + key, app);
  const CLI::Option* option = long_flags(app).at(flag);
  const bool bare = option->get_items_expected_max() == 0;
  if (value.IsNull()) return;
  if (value.IsSequence()) {
    out.push_back(flag);
    for (const YAML::Node& element : value) out.push_back(element.as<std::string>());
    return;
  }
  if (!value.IsScalar()) {
    fail(Code::kInvalidArgument, "'{}' must be a value or a list", key);
  }
  if (bare) {
    if (value.as<bool>()) out.push_back(flag);
    return;
  }
  out.push_back(flag + "=" + value.as<std::string>());
}

Words read_config(const std::string& path, const CLI::App& app) {
  Words out;
  try {
    const YAML::Node root = YAML::Load(read_file(path, size_t{1} << 20));
    if (root.IsNull()) return out;
    if (!root.IsMap()) fail(Code::kInvalidArgument, "must be a map of flag names to values");
    for (const auto& pair : root) {
      std::string key = pair.first.as<std::string>();
      std::ranges::replace(key, '_', '-');
      append_pair(key, pair.second, app, out);
    }
  } catch (const YAML::Exception& e) {
    fail(Code::kInvalidArgument, "--config {}: {}", path, e.what());
  } catch (const Error& e) {
    fail(Code::kInvalidArgument, "--config {}: {}", path, e.what());
  }
  return out;
}

}  // namespace

std::string nearest(const std::string& word, const Words& candidates) {
  std::string best;
  size_t best_edits = std::max<size_t>(3, word.size() / 3);  // further off is no typing error
  for (const std::string& candidate : candidates) {
    const size_t distance = edits(word, candidate);
    if (distance >= best_edits) continue;
    best_edits = distance;
    best = candidate;
  }
  return best;
}

std::vector<std::string> expand_arguments(const CLI::App& app, int argc, const char* const* argv) {
  const CLI::App* verb = &app;
  Words out;
  size_t after_verb = 0;  // where the configuration goes
  bool is_value = false;  // the word belongs to the flag before it
  std::string config;
  bool next_is_config = false;
  for (int i = 1; i < argc; ++i) {
    std::string word = argv[i];
    if (word == "--") {
      out.insert(out.end(), argv + i, argv + argc);
      break;
    }
    if (word.starts_with("--") && !is_value) {
      const size_t equals = word.find('=');
      const std::string name = complete(word.substr(0, equals), *verb);
      const bool takes_value = long_flags(*verb).at(name)->get_items_expected_min() > 0;
      is_value = takes_value && equals == std::string::npos;
      if (name == "--config") {
        next_is_config = is_value;
        if (!is_value) config = word.substr(equals + 1);
      }
      out.push_back(equals == std::string::npos ? name : name + word.substr(equals));
      continue;
    }
    if (next_is_config) config = word;
    const bool was_value = std::exchange(is_value, false);
    next_is_config = false;
    out.push_back(word);
    if (was_value || word.starts_with("-")) {
      continue;  // a short flag's value is no verb either: verbs with verbs below have no short
                 // flags
    }
    const auto verbs =
        verb->get_subcommands([&](const CLI::App* sub) { return sub->get_name() == word; });
    if (!verbs.empty()) {
      verb = verbs.front();
      after_verb = out.size();
    }
  }
  if (!config.empty() && verb->get_name() != "inspect") {  // whose --config is a model's
    const Words read = read_config(config, *verb);
    out.insert(out.begin() + static_cast<std::ptrdiff_t>(after_verb), read.begin(), read.end());
  }
  return out;
}

}  // namespace erne::cli
