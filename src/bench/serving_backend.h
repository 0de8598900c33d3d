// What the load client says to a server and how it reads the answer, per `--backend` (spec
// bench.md 1.2 and 1.6). No network here: an answer is fed as bytes with their arrival times, so
// the timing rules are tested exactly.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bench/dataset.h"

namespace erne::bench {

enum class Api {
  kGenerate,     ///< /generate: `text` and `completion_tokens` are cumulative
  kCompletions,  ///< /v1/completions
  kChat,         ///< /v1/chat/completions
};

struct ServingBackend {
  std::string_view name;
  Api api;
  int default_port;
};

/// Throws Error{kUnsupported} for backends of the reference that are out of scope, else
/// Error{kInvalidArgument} naming all.
const ServingBackend& find_backend(std::string_view name);
std::vector<std::string> backend_names();
std::string_view backend_path(Api api);

struct BodyOptions {
  std::string model;
  bool stream = true;
  bool ignore_eos = true;
  bool return_logprob = false;  ///< kGenerate only
  bool send_ids = false;        ///< --tokenize-prompt; kGenerate only
  double temperature = 0;
  std::optional<double> top_p;
  std::string extra_body;  ///< a JSON object, merged last; empty: none
};

/// The request body as JSON text; `output_len` is the number of tokens to ask for.
std::string request_body(const ServingBackend& backend, const BenchRequest& request, int output_len,
                         const BodyOptions& options);

/// What one request came to. Times in seconds; start_s on the client's clock.
struct RequestResult {
  bool success = false;
  std::string error;  ///< why not
  std::string text;
  double start_s = 0;
  double ttft_s = 0;     ///< first chunk with text - start
  double latency_s = 0;  ///< last line - start
  std::vector<double> itl_s;
  std::vector<std::string> chunks;  ///< text of each ITL entry, OpenAI routes only
  int prompt_len = 0;
  int output_len = 0;  ///< as the server counts, else as asked for
};

/// Reads one answer. feed() takes bytes in any split; lines are handled when complete.
class AnswerReader {
 public:
  AnswerReader(Api api, bool stream, int requested_len, double start_s);

  void feed(std::string_view bytes, double now_s);
  /// Ends the answer. `http_status` 0 with `transport_error` when the connection failed.
  RequestResult finish(int http_status, const std::string& transport_error, double now_s);

 private:
  void read_line(std::string_view line, double now_s);
  void read_event(const nlohmann::json& event, double now_s);
  void read_generate(const nlohmann::json& event, double now_s);
  void read_openai(const nlohmann::json& event, double now_s);
  void fail_with(std::string message);
  void read_whole(double now_s);

  Api api_;
  bool stream_;
  std::string buffer_;       ///< an unfinished line, or the whole body when not streaming
  std::string plain_;        ///< lines that are no events: an error page
  double last_text_s_ = 0;   ///< arrival of the newest chunk with text
  int last_output_len_ = 0;  ///< completion_tokens at that time
  bool any_text_ = false;
  RequestResult result_;
};

}  // namespace erne::bench
