#include "server/generate_api.h"

#include <chrono>

#include "base/json.h"
#include "server/api_error.h"
#include "server/generation.h"
#include "server/logprobs.h"
#include "server/openai.h"
#include "server/prompts.h"

namespace erne::server {
namespace {

constexpr int kDefaultMaxNewTokens = 128;

struct GenerateShape {
  std::string rid;
  std::vector<int> n;  ///< per prompt
  bool list = false;   ///< the answer is an array, and stream events carry an index
  bool cumulative = true;
  bool logprobs = false;
  bool text_in_logprobs = false;
  int top = 0;
  int64_t logprob_start = -1;
  std::string weight_version;
  std::chrono::steady_clock::time_point received;
};

OrderedJson finish_json(const Finish& finish, int completion_tokens) {
  switch (finish.reason) {
    case FinishReason::kStop: {
      OrderedJson out = {{"type", "stop"}};
      out["matched"] = matched_stop(finish);
      return out;
    }
    case FinishReason::kLength: {
      OrderedJson out = {{"type", "length"}};
      out["length"] = completion_tokens;
      return out;
    }
    case FinishReason::kAbort:
    case FinishReason::kError:
      break;
  }
  const int status = finish.reason == FinishReason::kAbort ? 503 : 500;
  OrderedJson out;
  out["type"] = "abort";
  out["message"] = finish.message;
  out["status_code"] = status;
  out["err_type"] = error_type(status);
  return out;
}

class GenerateFormat final : public AnswerFormat {
 public:
  GenerateFormat(GenerateShape shape, const Tokenizer& tokenizer)
      : shape_(std::move(shape)), tokenizer_(tokenizer) {
    for (const int n : shape_.n) {
      const size_t first = choices_.size();
      first_choice_.push_back(first);
      choices_.resize(first + static_cast<size_t>(n));
      for (size_t i = first; i < choices_.size(); ++i) choices_[i].first = first;
    }
  }

  void stream(size_t prompt, const Output& output, std::string& events) override {
    const size_t index = first_choice_[prompt] + static_cast<size_t>(output.choice);
    keep(choices_[index], output);
    OrderedJson event = entry(index);
    if (shape_.list) event["index"] = index;
    append_event(events, dump_json(event));
    if (!shape_.cumulative) {
      Choice& choice = choices_[index];
      choice.text.clear();
      choice.ids.clear();
      choice.logprobs.clear();
    }
  }

  void stream_end(std::string&) override {}

  void add(size_t prompt, Output output) override {
    keep(choices_[first_choice_[prompt] + static_cast<size_t>(output.choice)], output);
  }

  std::string whole() override {
    if (!shape_.list) return dump_json(entry(0));
    OrderedJson all = OrderedJson::array();
    for (size_t i = 0; i < choices_.size(); ++i) all.push_back(entry(i));
    return dump_json(all);
  }

 private:
  struct Choice {
    size_t first = 0;  // choice 0 of its prompt, which alone is told the prompt's logprobs
    std::string text;
    std::vector<int32_t> ids;
    std::vector<TokenLogprob> logprobs, prompt_logprobs;
    Usage usage;
    std::optional<Finish> finish;
    int retractions = 0;
    double queue_s = 0;
  };

  static void keep(Choice& choice, const Output& output) {
    choice.text += output.text;
    choice.ids.insert(choice.ids.end(), output.token_ids.begin(), output.token_ids.end());
    choice.logprobs.insert(choice.logprobs.end(), output.logprobs.begin(), output.logprobs.end());
    if (!output.prompt_logprobs.empty()) choice.prompt_logprobs = output.prompt_logprobs;
    choice.usage = output.usage;
    choice.retractions = output.num_retractions;
    choice.queue_s = output.queue_s;
    if (output.finish) choice.finish = output.finish;
  }

  OrderedJson entry(size_t index) const {
    const Choice& choice = choices_[index];
    OrderedJson meta;
    meta["id"] = choices_.size() == 1 ? shape_.rid : fmt::format("{}-{}", shape_.rid, index);
    meta["finish_reason"] = nullptr;
    if (choice.finish)
      meta["finish_reason"] = finish_json(*choice.finish, choice.usage.completion_tokens);
    meta["prompt_tokens"] = choice.usage.prompt_tokens;
    meta["completion_tokens"] = choice.usage.completion_tokens;
    meta["cached_tokens"] = choice.usage.cached_tokens;
    meta["weight_version"] = shape_.weight_version;
    meta["total_retractions"] = choice.retractions;
    const std::chrono::duration<double> age = std::chrono::steady_clock::now() - shape_.received;
    meta["e2e_latency"] = age.count();
    meta["queue_time"] = choice.queue_s;
    if (shape_.logprobs) add_logprobs(choice, meta);
    OrderedJson out;
    out["text"] = choice.text;
    out["output_ids"] = choice.ids;
    out["meta_info"] = std::move(meta);
    return out;
  }

  void add_logprobs(const Choice& choice, OrderedJson& meta) const {
    std::span<const TokenLogprob> input;
    const bool from_start = shape_.logprob_start == 0;
    if (shape_.logprob_start >= 0) {
      const std::vector<TokenLogprob>& of_prompt = choices_[choice.first].prompt_logprobs;
      input = std::span(of_prompt).subspan(
          std::min(static_cast<size_t>(shape_.logprob_start), of_prompt.size()));
    }
    const bool text = shape_.text_in_logprobs;
    meta["input_token_logprobs"] = generate_logprobs(input, text, from_start, tokenizer_);
    meta["output_token_logprobs"] = generate_logprobs(choice.logprobs, text, false, tokenizer_);
    if (shape_.top == 0) return;
    meta["input_top_logprobs"] = generate_top_logprobs(input, shape_.top, text, tokenizer_);
    meta["output_top_logprobs"] =
        generate_top_logprobs(choice.logprobs, shape_.top, text, tokenizer_);
  }

  const GenerateShape shape_;
  const Tokenizer& tokenizer_;
  std::vector<size_t> first_choice_;
  std::vector<Choice> choices_;
};

/// A string or a list of strings; read_prompts would take ids under this name too.
void require_texts(const OrderedJson& value) {
  if (value.is_string()) return;
  if (!value.is_array() || value.empty())
    refuse_field("text", "must be a string or a list of strings, got {}", shown(value));
  for (size_t i = 0; i < value.size(); ++i) {
    if (!value[i].is_string())
      refuse_field(fmt::format("text.{}", i), "must be a string, got {}", shown(value[i]));
  }
}

/// Token ids or lists of them; read_prompts would take text under this name too.
void require_ids(const OrderedJson& value) {
  if (!value.is_array() || value.empty()) {
    refuse_field("input_ids", "must be a list of token ids or a list of such lists, got {}",
                 shown(value));
  }
  const bool lists = value[0].is_array();
  for (size_t i = 0; i < value.size(); ++i) {
    if (value[i].is_array() == lists && !value[i].is_string()) continue;
    refuse_field(fmt::format("input_ids.{}", i), "must be {}, got {}",
                 lists ? "a list of token ids" : "a token id", shown(value[i]));
  }
}

Prompts read_input(Fields& fields, const Backend& backend) {
  const OrderedJson* text = fields.find("text");
  const OrderedJson* ids = fields.find("input_ids");
  if ((text != nullptr) == (ids != nullptr)) refuse_field("text", "give either text or input_ids");
  const int64_t vocab_size = backend.config().vocab_size;
  const char* name = text != nullptr ? "text" : "input_ids";
  const OrderedJson& value = text != nullptr ? *text : *ids;
  text != nullptr ? require_texts(value) : require_ids(value);
  return read_prompts(value, name, backend.tokenizer(), vocab_size);
}

/// Sampling parameters of prompt `index`: one object for all, or a list with one each.
Request read_params(Fields& fields, size_t index, size_t num_prompts, Service& service) {
  static const OrderedJson* const kEmpty = new OrderedJson(OrderedJson::object());
  const OrderedJson* value = fields.find("sampling_params");
  std::string path = fields.path("sampling_params");
  if (value != nullptr && value->is_array()) {
    if (value->size() != num_prompts) {
      refuse_field(path, "must have one entry per prompt ({}), got {}", num_prompts, value->size());
    }
    value = &(*value)[index];
    path += fmt::format(".{}", index);
  }
  Fields params(value == nullptr ? *kEmpty : *value, path);
  refuse_unavailable(params);
  Request request;
  read_sampling(params, kGenerateNames, service, request);
  if (!request.max_new_tokens)
    request.max_new_tokens = std::max(kDefaultMaxNewTokens, request.min_new_tokens);
  params.log_unknown();
  return request;
}

}  // namespace

void generate(Service& service, const HttpRequest& http,
              const std::shared_ptr<HttpResponder>& responder) {
  GenerationPlan plan;
  plan.received = http.received;
  const OrderedJson body = parse_ordered_json(http.body, "request body");
  Fields fields(body, "");
  refuse_unavailable(fields);
  const Envelope envelope = read_envelope(fields, "", service);
  const Backend& backend = *service.backend.load();
  if (const OrderedJson* text = fields.find("text")) check_text_fits(*text, "text", service);
  Prompts prompts = read_input(fields, backend);

  GenerateShape shape;
  shape.rid = envelope.rid;
  shape.list = prompts.batch;
  shape.cumulative = !service.options.stream_output;
  shape.weight_version = service.options.weight_version;
  shape.received = http.received;
  shape.logprobs = fields.boolean("return_logprob").value_or(false);
  shape.logprob_start = fields.integer("logprob_start_len", -1, INT32_MAX).value_or(-1);
  shape.top = static_cast<int>(fields.integer("top_logprobs_num", 0, 20).value_or(0));
  shape.text_in_logprobs = fields.boolean("return_text_in_logprobs").value_or(false);
  size_t num_choices = 0;
  for (size_t i = 0; i < prompts.ids.size(); ++i) {
    Request request = read_params(fields, i, prompts.ids.size(), service);
    request.prompt_ids = std::move(prompts.ids[i]);
    request.cache_salt = envelope.salt;
    request.logprobs = shape.logprobs;
    request.top_logprobs = shape.logprobs ? shape.top : 0;
    request.prompt_logprobs = shape.logprobs && shape.logprob_start >= 0;
    fit_context(
        request,
        {fields.find("text") != nullptr ? "text" : "input_ids", "sampling_params.max_new_tokens"},
        service);
    num_choices += static_cast<size_t>(request.n);
    check_choices(prompts.ids.size(), num_choices, "sampling_params.n");
    shape.n.push_back(request.n);
    shape.list = shape.list || request.n > 1;
    plan.requests.push_back(std::move(request));
  }
  fields.log_unknown();
  plan.rid = envelope.rid;
  plan.stream = envelope.stream;
  plan.format = std::make_unique<GenerateFormat>(std::move(shape), backend.tokenizer());
  start_generation(service, std::move(plan), responder);
}

}  // namespace erne::server
