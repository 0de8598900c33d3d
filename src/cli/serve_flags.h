// The flags of `erne serve` (spec serving.md 1.2) and their way into ServerOptions.
#pragma once

#include <optional>
#include <string>

#include "cli/engine_flags.h"
#include "cli/unbuilt_flags.h"
#include "server/service.h"

namespace erne::cli {

struct ServeFlags {
  EngineFlags engine;
  server::ServerOptions server;  ///< filled in place by the flags that map one to one
  std::string config;
  std::string chat_template;
  std::string api_key, admin_api_key;
  std::string sampling_defaults = "model";
  std::string log_level = "info";
  bool log_requests = false;
  int log_requests_level = 0;
  std::string log_requests_format = "text";
  int decode_log_interval = 40;
  double header_timeout_s = 30;
  double grace_s = 180;
  double watchdog_s = 300;
  double request_timeout_s = 0;
  bool skip_warmup = false;
  bool allow_auto_truncate = false;
  bool disable_web_ui = false;
  UnbuiltValues unbuilt;
};

void add_serve_flags(CLI::App& app, ServeFlags& flags);
/// After the parse: checks the values, refuses what is not built. Throws Error naming the flag.
server::ServerOptions to_server_options(const CLI::App& app, const ServeFlags& flags);

}  // namespace erne::cli
