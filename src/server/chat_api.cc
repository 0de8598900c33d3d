#include "server/chat_api.h"

#include "base/json.h"
#include "server/api_error.h"
#include "server/chat_request.h"
#include "server/generation.h"
#include "server/logprobs.h"
#include "server/openai.h"
#include "server/prompts.h"

namespace erne::server {
namespace {

struct ChatShape {
  AnswerHead head;
  int n = 1;
  bool logprobs = false;
  int top_logprobs = 0;
  bool include_usage = false, continuous_usage = false, cache_report = false;
  std::string weight_version;
};

class ChatFormat final : public AnswerFormat {
 public:
  ChatFormat(ChatShape shape, const Tokenizer& tokenizer)
      : shape_(std::move(shape)),
        tokenizer_(tokenizer),
        usage_(1, shape_.n),
        choices_(static_cast<size_t>(shape_.n)) {}

  void stream(size_t prompt, const Output& output, std::string& events) override {
    usage_.add(prompt, output);
    Choice& choice = choices_[static_cast<size_t>(output.choice)];
    if (!choice.begun) {
      choice.begun = true;
      OrderedJson delta;
      delta["role"] = "assistant";
      delta["content"] = "";
      append_chunk(output.choice, std::move(delta), nullptr, nullptr, events);
    }
    if (!output.text.empty() || (shape_.logprobs && !output.logprobs.empty())) {
      OrderedJson delta;
      delta["content"] = output.text;
      append_chunk(output.choice, std::move(delta), logprobs_json(output.logprobs), nullptr,
                   events);
    }
    if (output.finish)
      append_chunk(output.choice, OrderedJson::object(), nullptr, &*output.finish, events);
  }

  void stream_end(std::string& events) override {
    if (!shape_.include_usage) return;
    OrderedJson chunk = head_json(shape_.head);
    chunk["choices"] = OrderedJson::array();
    chunk["usage"] = usage_json(usage_, shape_.cache_report);
    append_event(events, dump_json(chunk));
  }

  void add(size_t prompt, Output output) override {
    usage_.add(prompt, output);
    Choice& choice = choices_[static_cast<size_t>(output.choice)];
    choice.text += output.text;
    choice.logprobs.insert(choice.logprobs.end(), output.logprobs.begin(), output.logprobs.end());
    if (output.finish) choice.finish = std::move(*output.finish);
  }

  std::string whole() override {
    OrderedJson body = head_json(shape_.head);
    body["choices"] = OrderedJson::array();
    for (size_t i = 0; i < choices_.size(); ++i) {
      const Choice& choice = choices_[i];
      OrderedJson message;
      message["role"] = "assistant";
      message["content"] = choice.text;
      message["reasoning_content"] = nullptr;
      message["tool_calls"] = nullptr;
      OrderedJson entry;
      entry["index"] = i;
      entry["message"] = std::move(message);
      entry["logprobs"] = logprobs_json(choice.logprobs);
      entry["finish_reason"] = finish_reason(choice.finish);
      entry["matched_stop"] = matched_stop(choice.finish);
      body["choices"].push_back(std::move(entry));
    }
    body["usage"] = usage_json(usage_, shape_.cache_report);
    body["metadata"]["weight_version"] = shape_.weight_version;
    return dump_json(body);
  }

 private:
  struct Choice {
    bool begun = false;
    std::string text;
    std::vector<TokenLogprob> logprobs;
    Finish finish;
  };

  OrderedJson logprobs_json(const std::vector<TokenLogprob>& logprobs) const {
    if (!shape_.logprobs) return nullptr;
    OrderedJson out;
    out["content"] = chat_logprobs(logprobs, shape_.top_logprobs, tokenizer_);
    return out;
  }

  void append_chunk(int index, OrderedJson delta, OrderedJson logprobs, const Finish* finish,
                    std::string& events) {
    OrderedJson entry;
    entry["index"] = index;
    entry["delta"] = std::move(delta);
    entry["logprobs"] = std::move(logprobs);
    entry["finish_reason"] = nullptr;
    if (finish != nullptr) {
      entry["finish_reason"] = finish_reason(*finish);
      entry["matched_stop"] = matched_stop(*finish);
    }
    OrderedJson chunk = head_json(shape_.head);
    chunk["choices"] = OrderedJson::array();
    chunk["choices"].push_back(std::move(entry));
    if (shape_.continuous_usage) {
      chunk["usage"] = usage_json(usage_, shape_.cache_report);
    } else if (shape_.include_usage) {
      chunk["usage"] = nullptr;
    }
    append_event(events, dump_json(chunk));
  }

  const ChatShape shape_;
  const Tokenizer& tokenizer_;
  UsageCount usage_;
  std::vector<Choice> choices_;
};

void read_logprobs(Fields& fields, Request& request) {
  request.logprobs = fields.boolean("logprobs").value_or(false);
  const auto top = fields.integer("top_logprobs", 0, 20);
  if (top.value_or(0) > 0 && !request.logprobs) {
    refuse_field(fields.path("top_logprobs"), "needs logprobs to be true");
  }
  request.top_logprobs = static_cast<int>(top.value_or(0));
}

}  // namespace

void chat_completions(Service& service, const HttpRequest& http,
                      const std::shared_ptr<HttpResponder>& responder) {
  GenerationPlan plan;
  plan.received = http.received;
  const OrderedJson body = parse_ordered_json(http.body, "request body");
  Fields fields(body, "");
  refuse_unavailable(fields);
  const Envelope envelope = read_envelope(fields, "chatcmpl-", service);
  const Backend& backend = *service.backend.load();

  Request request;
  read_sampling(fields, kChatNames, service, request);
  read_logprobs(fields, request);
  const PromptText prompt = render_chat(fields, service);
  check_text_fits(std::string_view(prompt.text), "messages", service);
  request.prompt_ids = backend.tokenizer().encode(prompt);
  request.cache_salt = envelope.salt;
  fields.log_unknown();
  fit_context(request, {"messages", "max_completion_tokens"}, service);

  ChatShape shape;
  shape.head = {envelope.rid, envelope.stream ? "chat.completion.chunk" : "chat.completion",
                static_cast<int64_t>(unix_time_s()), envelope.model};
  shape.n = request.n;
  shape.logprobs = request.logprobs;
  shape.top_logprobs = request.top_logprobs;
  shape.include_usage = envelope.include_usage;
  shape.continuous_usage = envelope.continuous_usage;
  shape.cache_report = service.options.enable_cache_report;
  shape.weight_version = service.options.weight_version;
  plan.rid = envelope.rid;
  plan.stream = envelope.stream;
  plan.format = std::make_unique<ChatFormat>(std::move(shape), backend.tokenizer());
  plan.requests.push_back(std::move(request));
  start_generation(service, std::move(plan), responder);
}

}  // namespace erne::server
