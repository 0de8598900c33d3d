// What the environment says about the hub, in the words that Hugging Face's own tools use, so that
// a machine set up for them needs nothing more.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

namespace erne {

struct HubSettings {
  std::string endpoint;  ///< scheme, host and port, no final slash
  std::string token;     ///< empty: none
  std::string token_source;
  std::filesystem::path cache;  ///< holds models--org--name folders
  bool offline = false;

  // How patient a transfer is. Tests shorten these.
  int connect_timeout_s = 10;
  int stall_timeout_s = 30;  ///< without a byte for so long, an attempt ends
  int attempts = 6;          ///< in a row without a new byte, before giving up
  int backoff_ms = 500;      ///< before the second attempt; doubles, up to 60 times itself
  int connections = 4;       ///< files in flight at once
};

/// Looks a variable up; absent and empty are the same.
using Environment = std::function<std::optional<std::string>(const char* name)>;
/// The process's environment.
std::optional<std::string> environment_variable(const char* name);

/// HF_ENDPOINT; HF_TOKEN, else the file HF_TOKEN_PATH, else HF_HOME/token; HF_HUB_CACHE, else
/// HF_HOME/hub, else XDG_CACHE_HOME/huggingface/hub, else ~/.cache/huggingface/hub; HF_HUB_OFFLINE
/// (1, true, yes, on). Throws Error{kInvalidArgument} for an endpoint that is neither https nor
/// plain http on this machine.
HubSettings read_hub_settings(const Environment& environment);

/// Where erne keeps what it can make again: XDG_CACHE_HOME/erne, else ~/.cache/erne.
std::filesystem::path erne_cache(const Environment& environment);

}  // namespace erne
