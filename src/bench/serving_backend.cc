#include "bench/serving_backend.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/error.h"
#include "base/json.h"

namespace erne::bench {
namespace {

constexpr std::array<ServingBackend, 11> kBackends = {{
    {"sglang", Api::kGenerate, 30000},
    {"sglang-native", Api::kGenerate, 30000},
    {"erne", Api::kGenerate, 30000},
    {"sglang-oai", Api::kCompletions, 30000},
    {"vllm", Api::kCompletions, 8000},
    {"lmdeploy", Api::kCompletions, 23333},
    {"erne-oai", Api::kCompletions, 30000},
    {"sglang-oai-chat", Api::kChat, 30000},
    {"vllm-chat", Api::kChat, 8000},
    {"lmdeploy-chat", Api::kChat, 23333},
    {"erne-chat", Api::kChat, 30000},
}};

// A server that sends one endless line must not eat the client's memory; long logprob lines stay
// far below this.
constexpr size_t kMaxAnswerBytes = size_t{256} << 20;
constexpr size_t kMaxErrorText = 2000;

OrderedJson generate_body(const BenchRequest& request, int output_len, const BodyOptions& options) {
  OrderedJson body;
  if (options.send_ids) {
    body["input_ids"] = request.ids;
  } else {
    body["text"] = request.text;
  }
  OrderedJson& sampling = body["sampling_params"];
  sampling["temperature"] = options.temperature;
  sampling["max_new_tokens"] = output_len;
  sampling["ignore_eos"] = options.ignore_eos;
  if (options.top_p) sampling["top_p"] = *options.top_p;
  body["stream"] = options.stream;
  body["return_logprob"] = options.return_logprob;
  body["logprob_start_len"] = -1;
  return body;
}

OrderedJson openai_body(const ServingBackend& backend, const BenchRequest& request, int output_len,
                        const BodyOptions& options) {
  OrderedJson body;
  body["model"] = options.model;
  if (backend.api == Api::kChat) {
    body["messages"] = OrderedJson::array({{{"role", "user"}, {"content", request.text}}});
    body["temperature"] = options.temperature;
    body["max_completion_tokens"] = output_len;
  } else {
    body["prompt"] = request.text;
    body["temperature"] = options.temperature;
    body["best_of"] = 1;
    body["max_tokens"] = output_len;
  }
  if (options.top_p) body["top_p"] = *options.top_p;
  body["stream"] = options.stream;
  body["ignore_eos"] = options.ignore_eos;
  // The reference asks for no usage; without it an answer that ended early would count as full
  // length.
  if (options.stream && !options.ignore_eos) body["stream_options"] = {{"include_usage", true}};
  return body;
}

std::string error_text(const Json& error) {
  if (error.is_string()) return error.get<std::string>();
  if (error.is_object() && error.contains("message") && error["message"].is_string()) {
    return error["message"].get<std::string>();
  }
  return dump_json(error);
}

// {"error": …} of every OpenAI-like server, or the flat {"object": "error", "message": …}.
std::optional<std::string> find_error(const Json& event) {
  if (!event.is_object()) return std::nullopt;
  if (event.contains("error") && !event["error"].is_null()) return error_text(event["error"]);
  if (event.value("object", Json()) == "error") return error_text(event);
  return std::nullopt;
}

// Member `name` if it is there and not null.
const Json* find(const Json& object, const char* name) {
  if (!object.is_object()) return nullptr;
  const auto it = object.find(name);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

std::string string_at(const Json& object, const char* name) {
  const Json* value = find(object, name);
  return value != nullptr && value->is_string() ? value->get<std::string>() : std::string();
}

std::optional<int> int_at(const Json& object, const char* name) {
  const Json* value = find(object, name);
  if (value == nullptr || !value->is_number_integer()) return std::nullopt;
  return static_cast<int>(std::clamp<int64_t>(value->get<int64_t>(), 0, 1 << 30));
}

std::string choice_text(const Json& choice, Api api) {
  if (api == Api::kCompletions) return string_at(choice, "text");
  for (const char* part : {"delta", "message"}) {
    const Json* message = find(choice, part);
    if (message == nullptr) continue;
    // Thinking is generated text too: it counts like an answer.
    return string_at(*message, "reasoning_content") + string_at(*message, "content");
  }
  return {};
}

}  // namespace

const ServingBackend& find_backend(std::string_view name) {
  for (const ServingBackend& backend : kBackends) {
    if (backend.name == name) return backend;
  }
  constexpr std::array<std::string_view, 3> kOutOfScope = {"trt", "truss", "gserver"};
  const bool known = std::find(kOutOfScope.begin(), kOutOfScope.end(), name) != kOutOfScope.end();
  fail(known ? Code::kUnsupported : Code::kInvalidArgument, "--backend {}: {}; use one of {}", name,
       known ? "not supported" : "unknown", fmt::join(backend_names(), ", "));
}

std::vector<std::string> backend_names() {
  std::vector<std::string> names;
  for (const ServingBackend& backend : kBackends) names.emplace_back(backend.name);
  return names;
}

std::string_view backend_path(Api api) {
  switch (api) {
    case Api::kGenerate:
      return "/generate";
    case Api::kCompletions:
      return "/v1/completions";
    case Api::kChat:
      return "/v1/chat/completions";
  }
  return "";
}

std::string request_body(const ServingBackend& backend, const BenchRequest& request, int output_len,
                         const BodyOptions& options) {
  OrderedJson body = backend.api == Api::kGenerate
                         ? generate_body(request, output_len, options)
                         : openai_body(backend, request, output_len, options);
  if (!options.extra_body.empty()) {
    const OrderedJson extra = parse_ordered_json(options.extra_body, "--extra-request-body");
    if (!extra.is_object()) {
      fail(Code::kInvalidArgument, "--extra-request-body must be a JSON object, got {}",
           extra.type_name());
    }
    body.update(extra);
  }
  return dump_json(body);
}

AnswerReader::AnswerReader(Api api, bool stream, int requested_len, double start_s)
    : api_(api), stream_(stream) {
  result_.start_s = start_s;
  result_.output_len = requested_len;
}

void AnswerReader::fail_with(std::string message) {
  if (result_.error.empty())
    result_.error = message.empty() ? "the server reported an error without text" : message;
}

void AnswerReader::feed(std::string_view bytes, double now_s) {
  if (buffer_.size() + bytes.size() > kMaxAnswerBytes) {
    buffer_.clear();
    fail_with(fmt::format("the server sent a line longer than {} MiB", kMaxAnswerBytes >> 20));
  }
  if (!result_.error.empty()) return;
  if (!stream_) {
    buffer_ += bytes;
    return;
  }
  size_t begin = 0;
  for (size_t end = bytes.find('\n'); end != std::string_view::npos;
       end = bytes.find('\n', begin)) {
    const std::string_view piece = bytes.substr(begin, end - begin);
    begin = end + 1;
    if (buffer_.empty()) {
      read_line(piece, now_s);
    } else {
      buffer_ += piece;
      read_line(std::exchange(buffer_, {}), now_s);
    }
  }
  buffer_ += bytes.substr(begin);
}

void AnswerReader::read_line(std::string_view line, double now_s) {
  while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.remove_suffix(1);
  if (line.empty() || line.starts_with(':')) return;  // event border, comment
  result_.latency_s = now_s - result_.start_s;
  if (!line.starts_with("data:")) {
    if (!line.starts_with("event:") && plain_.size() < kMaxErrorText)
      plain_ += std::string(line) + "\n";
    return;
  }
  line.remove_prefix(5);
  if (line.starts_with(' ')) line.remove_prefix(1);
  if (line == "[DONE]") return;
  try {
    read_event(parse_json(line, "stream event"), now_s);
  } catch (const Error& e) {
    fail_with(e.what());
  }
}

void AnswerReader::read_event(const nlohmann::json& event, double now_s) {
  if (auto error = find_error(event)) return fail_with(std::move(*error));
  if (api_ == Api::kGenerate) {
    read_generate(event, now_s);
  } else {
    read_openai(event, now_s);
  }
}

// Text and counts are cumulative: the gap since the last text is shared by the tokens that came
// with this one.
void AnswerReader::read_generate(const nlohmann::json& event, double now_s) {
  const Json* meta = find(event, "meta_info");
  const Json* reason = meta == nullptr ? nullptr : find(*meta, "finish_reason");
  if (reason != nullptr && string_at(*reason, "type") == "abort") {
    const std::string message = string_at(*reason, "message");
    return fail_with(message.empty() ? "the server aborted the request" : message);
  }
  std::string text = string_at(event, "text");
  if (text.empty()) return;
  const int output_len = meta == nullptr
                             ? last_output_len_
                             : int_at(*meta, "completion_tokens").value_or(last_output_len_);
  result_.text = std::move(text);
  if (!any_text_) {
    any_text_ = true;
    result_.ttft_s = now_s - result_.start_s;
  } else {
    const int growth = output_len - last_output_len_;
    if (growth <= 0) return;
    result_.itl_s.insert(result_.itl_s.end(), static_cast<size_t>(growth),
                         (now_s - last_text_s_) / growth);
  }
  last_text_s_ = now_s;
  last_output_len_ = output_len;
  result_.output_len = output_len;
}

void AnswerReader::read_openai(const nlohmann::json& event, double now_s) {
  if (const Json* usage = find(event, "usage")) {
    if (auto tokens = int_at(*usage, "completion_tokens")) result_.output_len = *tokens;
  }
  const Json* choices = find(event, "choices");
  if (choices == nullptr || !choices->is_array() || choices->empty()) return;
  std::string text = choice_text((*choices)[0], api_);
  if (text.empty()) return;
  result_.text += text;
  if (!any_text_) {
    any_text_ = true;
    result_.ttft_s = now_s - result_.start_s;
  } else {
    result_.itl_s.push_back(now_s - last_text_s_);
    result_.chunks.push_back(std::move(text));
  }
  last_text_s_ = now_s;
}

void AnswerReader::read_whole(double now_s) {
  try {
    read_event(parse_json(buffer_, "answer"), now_s);
  } catch (const Error& e) {
    fail_with(e.what());
  }
  result_.latency_s = result_.ttft_s = now_s - result_.start_s;
}

RequestResult AnswerReader::finish(int http_status, const std::string& transport_error,
                                   double now_s) {
  if (http_status == 200 && transport_error.empty()) {
    if (stream_ && !buffer_.empty()) read_line(std::exchange(buffer_, {}), now_s);
    if (!stream_) read_whole(now_s);
    if (!plain_.empty() && !any_text_)
      fail_with("the server did not answer with an event stream: " + plain_);
  } else if (!transport_error.empty()) {
    fail_with(transport_error);
  } else {
    const std::string body = (plain_ + buffer_).substr(0, kMaxErrorText);
    std::string message = body;
    try {
      message = find_error(parse_json(body, "answer")).value_or(body);
    } catch (const Error&) {
      // Not JSON: the text itself is the message.
    }
    result_.error.clear();
    fail_with(fmt::format("HTTP {}: {}", http_status, message));
  }
  if (result_.latency_s == 0) result_.latency_s = now_s - result_.start_s;
  result_.success = result_.error.empty();
  return std::move(result_);
}

}  // namespace erne::bench
