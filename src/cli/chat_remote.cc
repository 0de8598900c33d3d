// `erne chat --base-url`: the same terminal in front of any server with the OpenAI chat API.
#include <cstdlib>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "bench/curl_loop.h"
#include "cli/chat_backend.h"
#include "cli/line_editor.h"

namespace erne::cli {
namespace {

using bench::CurlLoop;

constexpr size_t kMaxLineBytes = size_t{16} << 20;

std::string text_at(const Json& object, const char* name) {
  if (!object.is_object()) return {};
  const auto it = object.find(name);
  return it != object.end() && it->is_string() ? it->get<std::string>() : std::string();
}

int count_at(const Json& object, const Json::json_pointer& path) {
  return object.contains(path) && object[path].is_number_integer() ? object[path].get<int>() : 0;
}

// {"error": {"message": …}} or the text as it is.
std::string error_message(const std::string& body) {
  if (Json::accept(body)) {
    const Json json = parse_json(body, "answer");
    if (json.is_object() && json.contains("error")) {
      const Json& error = json["error"];
      return error.is_string() ? error.get<std::string>() : text_at(error, "message");
    }
    if (json.is_object() && json.contains("message")) return text_at(json, "message");
  }
  return body.substr(0, 500);
}

// Reads the event stream of one answer.
class ChatEvents final : public bench::TransferSink {
 public:
  ChatEvents(const ChatBackend::OnText& on_text, double start_s)
      : on_text_(on_text), start_s_(start_s) {}

  void on_bytes(std::string_view bytes, double now_s) override {
    if (!error_.empty()) return;
    buffer_ += bytes;
    size_t begin = 0;
    for (size_t end = buffer_.find('\n'); end != std::string::npos;
         end = buffer_.find('\n', begin)) {
      read_line(std::string_view(buffer_).substr(begin, end - begin), now_s);
      begin = end + 1;
    }
    buffer_.erase(0, begin);
    if (buffer_.size() > kMaxLineBytes) error_ = "the server sent an endless line";
  }

  void on_end(int http_status, const std::string& error, double) override {
    ended_ = true;
    plain_ += buffer_;
    if (http_status == 0) {
      error_ = error;
    } else if (http_status != 200) {
      error_ = fmt::format("HTTP {}: {}", http_status, error_message(plain_));
    } else if (!any_event_ && error_.empty()) {
      error_ = "the server did not answer with an event stream";
    }
  }

  bool ended() const { return ended_; }
  const std::string& error() const { return error_; }
  ChatAnswer answer;

 private:
  void read_line(std::string_view line, double now_s) {
    while (line.ends_with('\r')) line.remove_suffix(1);
    if (!line.starts_with("data:")) {
      plain_ += std::string(line) + "\n";
      return;
    }
    any_event_ = true;
    line.remove_prefix(5);
    if (line.starts_with(' ')) line.remove_prefix(1);
    if (line == "[DONE]") return;
    try {
      read_event(parse_json(line, "stream event"), now_s);
    } catch (const Error& e) {
      error_ = e.what();
    }
  }

  void read_event(const Json& event, double now_s) {
    if (event.is_object() && event.contains("error") && !event["error"].is_null()) {
      error_ = error_message(std::string(dump_json(event)));
      return;
    }
    const Json::json_pointer delta_path("/choices/0/delta"),
        reason_path("/choices/0/finish_reason");
    if (event.contains(delta_path)) {
      const Json& delta = event[delta_path];
      hand_out(TextKind::kThinking, text_at(delta, "reasoning_content"), now_s);
      hand_out(TextKind::kAnswer, text_at(delta, "content"), now_s);
    }
    if (event.contains(reason_path) && event[reason_path].is_string()) {
      answer.stats.finish_reason = event[reason_path].get<std::string>();
    }
    if (event.is_object() && event.contains("usage") && event["usage"].is_object()) {
      const Json& usage = event["usage"];
      answer.stats.prompt_tokens = count_at(usage, Json::json_pointer("/prompt_tokens"));
      answer.stats.completion_tokens = count_at(usage, Json::json_pointer("/completion_tokens"));
      answer.stats.cached_tokens =
          count_at(usage, Json::json_pointer("/prompt_tokens_details/cached_tokens"));
    }
  }

  void hand_out(TextKind kind, const std::string& text, double now_s) {
    if (text.empty()) return;
    if (answer.stats.first_s == 0) answer.stats.first_s = now_s - start_s_;
    if (kind == TextKind::kAnswer) answer.text += text;
    on_text_(kind, text);
  }

  const ChatBackend::OnText& on_text_;
  double start_s_;
  std::string buffer_, plain_, error_;
  bool any_event_ = false;
  bool ended_ = false;
};

OrderedJson request_body(const std::string& model, const std::string& messages,
                         const SamplingFlags& s) {
  OrderedJson body;
  body["model"] = model;
  body["messages"] = parse_ordered_json(messages, "messages");
  body["stream"] = true;
  body["stream_options"] = {{"include_usage", true}};
  auto set = [&](const char* name, const auto& value) {
    if (value) body[name] = *value;
  };
  set("temperature", s.temperature);
  set("top_p", s.top_p);
  set("min_p", s.min_p);
  set("top_k", s.top_k);
  set("repetition_penalty", s.repetition_penalty);
  set("frequency_penalty", s.frequency_penalty);
  set("presence_penalty", s.presence_penalty);
  set("seed", s.seed);
  set("max_completion_tokens", s.max_new_tokens);
  if (!s.stop.empty()) body["stop"] = s.stop;
  if (!s.stop_token_ids.empty()) body["stop_token_ids"] = s.stop_token_ids;
  if (s.min_new_tokens > 0) body["min_tokens"] = s.min_new_tokens;
  if (s.ignore_eos) body["ignore_eos"] = true;
  return body;
}

class RemoteBackend final : public ChatBackend {
 public:
  RemoteBackend(std::string base_url, std::string model, const std::string& kwargs)
      : base_url_(std::move(base_url)), model_(std::move(model)) {
    while (base_url_.ends_with('/')) base_url_.pop_back();
    if (base_url_.ends_with("/v1")) base_url_.resize(base_url_.size() - 3);
    if (!kwargs.empty()) kwargs_ = parse_ordered_json(kwargs, "--chat-template-kwargs");
    const char* key = std::getenv("OPENAI_API_KEY");
    if (key != nullptr && *key != 0)
      headers_.push_back(fmt::format("Authorization: Bearer {}", key));
    if (model_.empty()) model_ = first_model();
  }

  std::string describe() const override { return fmt::format("{} at {}", model_, base_url_); }
  const GenerationConfig* defaults() const override { return nullptr; }
  int64_t context_length() const override { return 0; }

  ChatAnswer answer(const std::string& messages, const SamplingFlags& sampling,
                    const OnText& on_text) override {
    OrderedJson body = request_body(model_, messages, sampling);
    if (!kwargs_.is_null()) body["chat_template_kwargs"] = kwargs_;
    const double start_s = CurlLoop::now_s();
    ChatEvents events(on_text, start_s);
    loop_.start({.url = base_url_ + "/v1/chat/completions",
                 .post = true,
                 .body = dump_json(body),
                 .headers = headers_},
                events);
    while (!events.ended()) {
      if (InterruptGuard::interrupted()) {
        loop_.drop_all();  // closing the connection tells the server to stop
        events.answer.stats.finish_reason = "interrupted";
        break;
      }
      loop_.run_until(CurlLoop::now_s() + 0.05);
    }
    if (!events.error().empty()) fail(Code::kIo, "{}: {}", base_url_, events.error());
    events.answer.stats.total_s = CurlLoop::now_s() - start_s;
    return std::move(events.answer);
  }

 private:
  std::string first_model() {
    const bench::HttpAnswer answer = bench::fetch(
        loop_, {.url = base_url_ + "/v1/models", .headers = headers_, .timeout_s = 30});
    if (answer.status == 0) {
      fail(Code::kIo, "{}: {}; start a server with `erne serve`, or leave --base-url out",
           base_url_, answer.error);
    }
    if (answer.status != 200) {
      fail(Code::kIo, "GET {}/v1/models: HTTP {}: {}", base_url_, answer.status,
           error_message(answer.body));
    }
    const Json models = parse_json(answer.body, base_url_ + "/v1/models");
    const Json::json_pointer first("/data/0/id");
    if (!models.contains(first) || !models[first].is_string()) {
      fail(Code::kIo, "{} lists no model; name one with --model-path", base_url_);
    }
    return models[first].get<std::string>();
  }

  std::string base_url_, model_;
  OrderedJson kwargs_;
  std::vector<std::string> headers_;
  CurlLoop loop_;
};

}  // namespace

std::unique_ptr<ChatBackend> make_remote_backend(std::string base_url, std::string model,
                                                 const std::string& kwargs) {
  return std::make_unique<RemoteBackend>(std::move(base_url), std::move(model), kwargs);
}

}  // namespace erne::cli
