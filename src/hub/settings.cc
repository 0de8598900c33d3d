#include "hub/settings.h"

#include <cstdlib>
#include <string_view>

#include "base/error.h"
#include "base/file.h"
#include "hub/http.h"

namespace erne {
namespace {

namespace fs = std::filesystem;

fs::path user_cache(const Environment& environment) {
  if (const auto xdg = environment("XDG_CACHE_HOME")) return *xdg;
  if (const auto home = environment("HOME")) return fs::path(*home) / ".cache";
  fail(Code::kInvalidArgument,
       "neither HOME nor XDG_CACHE_HOME is set: set one, or HF_HOME, to a folder for models");
}

fs::path hf_home(const Environment& environment) {
  if (const auto home = environment("HF_HOME")) return *home;
  return user_cache(environment) / "huggingface";
}

fs::path hub_cache(const Environment& environment) {
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"}) {
    if (const auto folder = environment(name)) return *folder;
  }
  return hf_home(environment) / "hub";
}

std::string_view trim(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

void read_token(const Environment& environment, HubSettings& settings) {
  for (const char* name : {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"}) {
    if (const auto token = environment(name)) {
      settings.token = trim(*token);
      settings.token_source = name;
      break;
    }
  }
  if (settings.token.empty()) {
    const auto named = environment("HF_TOKEN_PATH");
    const fs::path file = named ? fs::path(*named) : hf_home(environment) / "token";
    if (!fs::is_regular_file(file)) return;
    settings.token = trim(read_file(file, 4096));
    settings.token_source = file.string();
  }
  // A line break inside would let the token add headers of its own.
  for (const char c : settings.token) {
    if (c <= ' ' || c > '~') {
      fail(Code::kInvalidArgument, "the token in {} holds a character that no token has",
           settings.token_source);
    }
  }
}

bool is_true(std::string word) {
  for (char& c : word) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return word == "1" || word == "true" || word == "yes" || word == "on";
}

}  // namespace

std::optional<std::string> environment_variable(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return value;
}

HubSettings read_hub_settings(const Environment& environment) {
  HubSettings settings;
  settings.endpoint = environment("HF_ENDPOINT").value_or("https://huggingface.co");
  while (settings.endpoint.ends_with('/')) settings.endpoint.pop_back();
  const Url url = parse_url(settings.endpoint, "HF_ENDPOINT");
  if (url.scheme != "https" && !url.is_local_http()) {
    fail(Code::kInvalidArgument,
         "HF_ENDPOINT is {}: models and tokens travel over https only (plain http on localhost)",
         settings.endpoint);
  }
  settings.cache = hub_cache(environment);
  settings.offline = is_true(environment("HF_HUB_OFFLINE").value_or("0"));
  read_token(environment, settings);
  return settings;
}

fs::path erne_cache(const Environment& environment) { return user_cache(environment) / "erne"; }

}  // namespace erne
