#include "cli/serve_flags.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "base/error.h"
#include "base/json.h"

namespace erne::cli {
namespace {

template <typename T>
CLI::Option* add(CLI::App& app, const char* group, const char* name, T& value, const char* help) {
  return app.add_option(name, value, help)->group(group)->take_last();
}

void add_switch(CLI::App& app, const char* group, const char* name, bool& value, const char* help) {
  app.add_flag(name, value, help)->group(group)->take_last();
}

void add_http_flags(CLI::App& app, ServeFlags& f) {
  const char* g = "HTTP";
  server::ServerOptions& s = f.server;
  s.http.port = 30000;
  add(app, g, "--host", s.http.host, "Address to listen on")->capture_default_str();
  add(app, g, "--port", s.http.port, "Port; 0 takes a free one")->capture_default_str();
  add(app, g, "--api-key", f.api_key, "Key that clients must send")->envname("ERNE_API_KEY");
  add(app, g, "--admin-api-key", f.admin_api_key, "Key of the admin routes")
      ->envname("ERNE_ADMIN_API_KEY");
  add(app, g, "--served-model-name", s.served_model_name, "Name in /v1/models (the model path)");
  add_switch(app, g, "--strict-model-name", s.strict_model_name, "404 for any other model name");
  add(app, g, "--max-payload-size", s.http.max_body_bytes, "Largest request body in bytes")
      ->capture_default_str();
  add(app, g, "--cors-allowed-origins", s.cors_allowed_origins, "* or a list with commas")
      ->capture_default_str();
  add_switch(app, g, "--disable-web-ui", f.disable_web_ui, "No chat page at /");
  add(app, g, "--http-header-timeout", f.header_timeout_s,
      "Seconds a client has to send its header")
      ->capture_default_str();
  add(app, g, "--request-timeout-secs", f.request_timeout_s, "Ends longer requests; 0: never")
      ->capture_default_str();
  add(app, g, "--shutdown-grace-period-secs", f.grace_s,
      "Seconds running requests get after SIGTERM")
      ->capture_default_str();
  add(app, g, "--tokenizer-worker-num", s.text_threads, "Threads for templates and tokenizing")
      ->capture_default_str();
  add_switch(app, g, "--skip-server-warmup", f.skip_warmup, "Ready without a first request");
  add(app, g, "--watchdog-timeout", f.watchdog_s, "Exit 1 after so many seconds without progress")
      ->capture_default_str();
}

void add_text_flags(CLI::App& app, ServeFlags& f) {
  const char* g = "Text and answers";
  server::ServerOptions& s = f.server;
  add(app, g, "--chat-template", f.chat_template,
      "Jinja file instead of the checkpoint's template");
  add(app, g, "--default-chat-template-kwargs", s.template_kwargs,
      "JSON object passed to the template")
      ->capture_default_str();
  add(app, g, "--sampling-defaults", f.sampling_defaults,
      "model (generation_config.json) or openai")
      ->capture_default_str();
  add_switch(app, g, "--allow-auto-truncate", f.allow_auto_truncate,
             "Cut over-long prompts instead of 400");
  add(app, g, "--stream-interval", s.stream_interval, "Tokens between stream events")
      ->capture_default_str();
  add_switch(app, g, "--stream-output", s.stream_output,
             "/generate streams pieces, not the text so far");
  add_switch(app, g, "--enable-cache-report", s.enable_cache_report,
             "prompt_tokens_details in usage");
  add(app, g, "--weight-version", s.weight_version, "Echoed in answers")->capture_default_str();
}

void add_observe_flags(CLI::App& app, ServeFlags& f) {
  const char* g = "Observe";
  server::ServerOptions& s = f.server;
  add(app, g, "--log-level", f.log_level, "debug, info, warning, error, off")
      ->capture_default_str();
  add_switch(app, g, "--log-requests", f.log_requests, "One line per finished request");
  add(app, g, "--log-requests-level", f.log_requests_level,
      "0: counts and times (all that is built)")
      ->capture_default_str();
  add(app, g, "--log-requests-format", f.log_requests_format, "text or json")
      ->capture_default_str();
  add(app, g, "--decode-log-interval", f.decode_log_interval,
      "Steps between log lines of the engine's work; 0: none")
      ->capture_default_str();
  add_switch(app, g, "--enable-metrics", s.enable_metrics, "Prometheus text at /metrics");
  add(app, g, "--metrics-prefix", s.metrics_prefix, "Before the ':' of metric names")
      ->capture_default_str();
  add_switch(app, g, "--collect-tokens-histogram", s.collect_tokens_histogram,
             "Histograms of token counts");
  const auto buckets = [&](const char* name, std::vector<double>& value) {
    app.add_option(name, value, "Histogram borders in seconds")->group(g);
  };
  buckets("--bucket-time-to-first-token", s.buckets.time_to_first_token);
  buckets("--bucket-inter-token-latency", s.buckets.inter_token_latency);
  buckets("--bucket-e2e-request-latency", s.buckets.e2e_request_latency);
}

void check_seconds(const char* flag, double value) {
  if (!(value > 0 && value <= 1e6))
    fail(Code::kInvalidArgument, "{} must be above 0 seconds, got {}", flag, value);
}

void check_word(const char* flag, const std::string& value, const char* a, const char* b) {
  if (value != a && value != b)
    fail(Code::kInvalidArgument, "{} must be {} or {}, got '{}'", flag, a, b, value);
}

void check_buckets(const char* flag, const std::vector<double>& borders) {
  if (!std::ranges::is_sorted(borders, std::less_equal<>{})) {
    fail(Code::kInvalidArgument, "{} must rise from value to value", flag);
  }
}

void check(const ServeFlags& f) {
  const server::ServerOptions& s = f.server;
  check_seconds("--http-header-timeout", f.header_timeout_s);
  check_seconds("--watchdog-timeout", f.watchdog_s);
  if (f.grace_s != 0) check_seconds("--shutdown-grace-period-secs", f.grace_s);
  if (f.request_timeout_s != 0) check_seconds("--request-timeout-secs", f.request_timeout_s);
  check_word("--sampling-defaults", f.sampling_defaults, "model", "openai");
  check_word("--log-requests-format", f.log_requests_format, "text", "json");
  check_buckets("--bucket-time-to-first-token", s.buckets.time_to_first_token);
  check_buckets("--bucket-inter-token-latency", s.buckets.inter_token_latency);
  check_buckets("--bucket-e2e-request-latency", s.buckets.e2e_request_latency);
  if (f.decode_log_interval < 0) {
    fail(Code::kInvalidArgument, "--decode-log-interval must be at least 0, got {}",
         f.decode_log_interval);
  }
  if (s.stream_interval < 1)
    fail(Code::kInvalidArgument, "--stream-interval must be at least 1, got {}", s.stream_interval);
  if (s.text_threads < 1 || s.text_threads > 256) {
    fail(Code::kInvalidArgument, "--tokenizer-worker-num must be from 1 to 256, got {}",
         s.text_threads);
  }
  if (s.http.max_body_bytes < 1024) {
    fail(Code::kInvalidArgument, "--max-payload-size must be at least 1024, got {}",
         s.http.max_body_bytes);
  }
  if (f.log_requests_level != 0) {
    fail(Code::kUnsupported, "--log-requests-level {}: only 0 is available in this version of erne",
         f.log_requests_level);
  }
  const auto letter = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
  };
  if (s.metrics_prefix.empty() || !std::ranges::all_of(s.metrics_prefix, letter)) {
    fail(Code::kInvalidArgument, "--metrics-prefix must be letters and '_', got '{}'",
         s.metrics_prefix);
  }
  if (!parse_json(s.template_kwargs, "--default-chat-template-kwargs").is_object()) {
    fail(Code::kInvalidArgument, "--default-chat-template-kwargs must be a JSON object, got {}",
         s.template_kwargs);
  }
}

/// A value as /get_server_info shows it: numbers and booleans as such.
OrderedJson shown_value(const CLI::Option& option) {
  const bool is_switch = option.get_items_expected_max() == 0;
  // A switch with an opposite ("--enable-x,!--disable-x") that nobody typed is on.
  if (is_switch && option.count() == 0) return !option.get_fnames().empty();
  if (is_switch) return option.as<bool>();
  const auto scalar = [](const std::string& text) -> OrderedJson {
    OrderedJson value = OrderedJson::parse(text, nullptr, false);
    return value.is_number() ? value : OrderedJson(text);
  };
  if (option.count() == 0)
    return option.get_default_str().empty() ? OrderedJson() : scalar(option.get_default_str());
  const CLI::results_t results = option.reduced_results();  // of a repeated flag what counts
  if (results.size() == 1) return scalar(results.front());
  OrderedJson list = OrderedJson::array();
  for (const std::string& result : results) list.push_back(scalar(result));
  return list;
}

std::string launch_arguments(const CLI::App& app) {
  OrderedJson out = OrderedJson::object();
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_lnames().empty() || (option->get_group().empty() && option->count() == 0))
      continue;
    std::string name = option->get_lnames().front();
    if (name == "help" || name.ends_with("api-key")) continue;
    std::ranges::replace(name, '-', '_');
    out[name] = shown_value(*option);
  }
  return dump_json(out);
}

}  // namespace

void add_serve_flags(CLI::App& app, ServeFlags& flags) {
  add_engine_flags(app, flags.engine);
  add_http_flags(app, flags);
  add_text_flags(app, flags);
  add_observe_flags(app, flags);
  add(app, "Observe", "--config", flags.config,
      "YAML file of flags without dashes; the command line wins");
  add_unbuilt_flags(app, flags.unbuilt);
}

server::ServerOptions to_server_options(const CLI::App& app, const ServeFlags& f) {
  refuse_unbuilt_flags(app, f.unbuilt);
  check(f);
  server::ServerOptions options = f.server;
  const auto ms = [](double seconds) {
    return std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
  };
  options.http.header_timeout = ms(f.header_timeout_s);
  options.model_path = f.engine.model_path;
  options.tokenizer_path = f.engine.model_path;
  if (options.served_model_name.empty()) options.served_model_name = options.model_path;
  if (!f.api_key.empty()) options.api_key = f.api_key;
  if (!f.admin_api_key.empty()) options.admin_api_key = f.admin_api_key;
  options.web_ui = !f.disable_web_ui;
  options.allow_auto_truncate = f.allow_auto_truncate;
  options.sampling_defaults_of_model = f.sampling_defaults == "model";
  if (f.request_timeout_s > 0) options.request_timeout_s = f.request_timeout_s;
  options.max_queued_requests = f.engine.max_queued_requests;
  options.max_queued_tokens = f.engine.max_queued_tokens;
  if (f.log_requests) options.log_requests_level = f.log_requests_level;
  options.log_requests_as_json = f.log_requests_format == "json";
  options.launch_arguments = launch_arguments(app);
  return options;
}

}  // namespace erne::cli
