#include "server/completions_api.h"

#include <algorithm>

#include "base/json.h"
#include "server/api_error.h"
#include "server/generation.h"
#include "server/logprobs.h"
#include "server/openai.h"
#include "server/prompts.h"

namespace erne::server {
namespace {

constexpr int kDefaultMaxTokens = 16;

struct CompletionShape {
  AnswerHead head;
  int n = 1;
  std::vector<std::string> echoes;  ///< per prompt; empty without echo
  bool logprobs = false;
  int top_logprobs = 0;
  bool skip_special_tokens = true;
  bool include_usage = false, continuous_usage = false, cache_report = false;
};

class CompletionFormat final : public AnswerFormat {
 public:
  CompletionFormat(CompletionShape shape, size_t num_prompts, const Tokenizer& tokenizer)
      : shape_(std::move(shape)), usage_(num_prompts, shape_.n) {
    const CompletionLogprobs fresh(tokenizer, shape_.top_logprobs, shape_.skip_special_tokens);
    choices_.resize(num_prompts * static_cast<size_t>(shape_.n),
                    Choice{false, {}, nullptr, fresh, {}, {}});
  }

  void stream(size_t prompt, const Output& output, std::string& events) override {
    usage_.add(prompt, output);
    Choice& choice = at(prompt, output.choice);
    std::string text = opening(choice, prompt) + output.text;
    OrderedJson logprobs = logprobs_json(choice, prompt, output);
    if (text.empty() && !output.finish && (logprobs.is_null() || logprobs["tokens"].empty()))
      return;
    OrderedJson entry;
    entry["index"] = index(prompt, output.choice);
    entry["text"] = std::move(text);
    entry["logprobs"] = std::move(logprobs);
    entry["finish_reason"] = nullptr;
    if (output.finish) {
      entry["finish_reason"] = finish_reason(*output.finish);
      entry["matched_stop"] = matched_stop(*output.finish);
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

  void stream_end(std::string& events) override {
    if (!shape_.include_usage) return;
    OrderedJson chunk = head_json(shape_.head);
    chunk["choices"] = OrderedJson::array();
    chunk["usage"] = usage_json(usage_, shape_.cache_report);
    append_event(events, dump_json(chunk));
  }

  void add(size_t prompt, Output output) override {
    usage_.add(prompt, output);
    Choice& choice = at(prompt, output.choice);
    choice.text += opening(choice, prompt) + output.text;
    OrderedJson logprobs = logprobs_json(choice, prompt, output);
    if (choice.logprobs.is_null()) {
      choice.logprobs = std::move(logprobs);
    } else if (!logprobs.is_null()) {
      for (const auto& item : logprobs.items()) {
        OrderedJson& list = choice.logprobs[item.key()];
        for (OrderedJson& value : item.value()) list.push_back(std::move(value));
      }
    }
    if (output.finish) choice.finish = std::move(*output.finish);
  }

  std::string whole() override {
    OrderedJson body = head_json(shape_.head);
    body["choices"] = OrderedJson::array();
    for (size_t i = 0; i < choices_.size(); ++i) {
      Choice& choice = choices_[i];
      OrderedJson entry;
      entry["index"] = i;
      entry["text"] = choice.text;
      entry["logprobs"] = std::move(choice.logprobs);
      entry["finish_reason"] = finish_reason(choice.finish);
      entry["matched_stop"] = matched_stop(choice.finish);
      body["choices"].push_back(std::move(entry));
    }
    body["usage"] = usage_json(usage_, shape_.cache_report);
    return dump_json(body);
  }

 private:
  struct Choice {
    bool begun;
    std::string text;
    OrderedJson logprobs;
    CompletionLogprobs writer;
    std::vector<TokenLogprob> prompt_logprobs;
    Finish finish;
  };

  size_t index(size_t prompt, int choice) const {
    return prompt * static_cast<size_t>(shape_.n) + static_cast<size_t>(choice);
  }
  Choice& at(size_t prompt, int choice) { return choices_[index(prompt, choice)]; }

  /// The echoed prompt before a choice's first text. Must run before logprobs_json.
  std::string opening(Choice& choice, size_t prompt) {
    if (choice.begun || shape_.echoes.empty()) return {};
    return shape_.echoes[prompt];
  }

  OrderedJson logprobs_json(Choice& choice, size_t prompt, const Output& output) {
    const bool first = !choice.begun;
    choice.begun = true;
    if (!shape_.logprobs) return nullptr;
    if (!first || shape_.echoes.empty()) return choice.writer.add(output.logprobs);
    // The engine gives the prompt's logprobs to the first choice only: the others repeat them.
    auto& of_prompt = at(prompt, 0).prompt_logprobs;
    if (of_prompt.empty()) of_prompt = output.prompt_logprobs;
    std::vector<TokenLogprob> all =
        output.prompt_logprobs.empty() ? of_prompt : output.prompt_logprobs;
    const bool null_first = !all.empty();
    all.insert(all.end(), output.logprobs.begin(), output.logprobs.end());
    return choice.writer.add(all, null_first);
  }

  const CompletionShape shape_;
  UsageCount usage_;
  std::vector<Choice> choices_;
};

void check_unsupported(Fields& fields, int n) {
  const auto best_of = fields.integer("best_of", 1, 128);
  if (best_of && *best_of != 1 && *best_of != n) {
    refuse_field(fields.path("best_of"), "must be 1 or n ({}), got {}", n, *best_of);
  }
  if (!fields.string("suffix").value_or("").empty()) {
    throw RequestError(Code::kUnsupported, fields.path("suffix"),
                       "suffix: this model has no fill-in-the-middle tokens");
  }
}

}  // namespace

void completions(Service& service, const HttpRequest& http,
                 const std::shared_ptr<HttpResponder>& responder) {
  GenerationPlan plan;
  plan.received = http.received;
  const OrderedJson body = parse_ordered_json(http.body, "request body");
  Fields fields(body, "");
  refuse_unavailable(fields);
  const Envelope envelope = read_envelope(fields, "cmpl-", service);
  const Backend& backend = *service.backend.load();

  Request request;
  read_sampling(fields, kCompletionNames, service, request);
  if (!request.max_new_tokens)
    request.max_new_tokens = std::max(kDefaultMaxTokens, request.min_new_tokens);
  check_unsupported(fields, request.n);
  const auto logprobs = fields.integer("logprobs", 0, 20);
  const bool echo = fields.boolean("echo").value_or(false);
  request.logprobs = logprobs.has_value();
  request.top_logprobs = static_cast<int>(logprobs.value_or(0));
  request.prompt_logprobs = echo && request.logprobs;
  request.cache_salt = envelope.salt;
  const OrderedJson* prompt = fields.find("prompt");
  if (prompt == nullptr) refuse_field("prompt", "is required");
  check_text_fits(*prompt, "prompt", service);
  Prompts prompts =
      read_prompts(*prompt, "prompt", backend.tokenizer(), backend.config().vocab_size);
  check_choices(prompts.ids.size(), prompts.ids.size() * static_cast<size_t>(request.n), "n");
  fields.log_unknown();

  CompletionShape shape;
  shape.head = {envelope.rid, "text_completion", static_cast<int64_t>(unix_time_s()),
                envelope.model};
  shape.n = request.n;
  shape.logprobs = request.logprobs;
  shape.top_logprobs = request.top_logprobs;
  shape.skip_special_tokens = request.skip_special_tokens;
  shape.include_usage = envelope.include_usage;
  shape.continuous_usage = envelope.continuous_usage;
  shape.cache_report = service.options.enable_cache_report;
  for (std::vector<int32_t>& ids : prompts.ids) {
    Request one = request;
    one.prompt_ids = std::move(ids);
    fit_context(one, {"prompt", "max_tokens"}, service);
    if (echo) {
      shape.echoes.push_back(
          backend.tokenizer().decode(one.prompt_ids, request.skip_special_tokens));
    }
    plan.requests.push_back(std::move(one));
  }
  plan.rid = envelope.rid;
  plan.stream = envelope.stream;
  plan.format = std::make_unique<CompletionFormat>(std::move(shape), plan.requests.size(),
                                                   backend.tokenizer());
  start_generation(service, std::move(plan), responder);
}

}  // namespace erne::server
