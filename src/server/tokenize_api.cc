#include "server/tokenize_api.h"

#include "base/json.h"
#include "base/utf8.h"
#include "server/api_error.h"
#include "server/chat_request.h"
#include "server/prompts.h"
#include "server/request_fields.h"

namespace erne::server {
namespace {

HttpResponse json_response(const OrderedJson& body) {
  HttpResponse response;
  response.body = dump_json(body);
  return response;
}

OrderedJson counts(const std::vector<std::vector<int32_t>>& ids, bool batch, int64_t context) {
  OrderedJson tokens = OrderedJson::array(), count = OrderedJson::array();
  for (const auto& one : ids) {
    tokens.push_back(one);
    count.push_back(one.size());
  }
  OrderedJson body;
  body["tokens"] = batch ? std::move(tokens) : std::move(tokens[0]);
  body["count"] = batch ? std::move(count) : std::move(count[0]);
  body["max_model_len"] = context;
  return body;
}

}  // namespace

HttpResponse tokenize(Service& service, const HttpRequest& request) {
  const OrderedJson body = parse_ordered_json(request.body, "request body");
  Fields fields(body, "");
  const Backend& backend = *service.backend.load();
  const Tokenizer& tokenizer = backend.tokenizer();
  if (const auto model = fields.string("model")) check_model_name(*model, service);
  const bool special = fields.boolean("add_special_tokens").value_or(true);
  if (fields.find("messages") != nullptr) {
    refuse_unavailable(fields);
    return json_response(
        counts({tokenizer.encode(render_chat(fields, service))}, false, backend.context_length()));
  }
  const OrderedJson* prompt = fields.find("prompt");
  if (prompt == nullptr) refuse_field("prompt", "is required (or messages)");
  const std::vector<std::string> texts = fields.strings("prompt");
  std::vector<std::vector<int32_t>> ids;
  for (const std::string& text : texts)
    ids.push_back(special ? encode_raw(text, tokenizer) : tokenizer.encode(text));
  if (ids.empty()) refuse_field("prompt", "must not be an empty list");
  return json_response(counts(ids, prompt->is_array(), backend.context_length()));
}

HttpResponse detokenize(Service& service, const HttpRequest& request) {
  const OrderedJson body = parse_ordered_json(request.body, "request body");
  Fields fields(body, "");
  const Backend& backend = *service.backend.load();
  if (const auto model = fields.string("model")) check_model_name(*model, service);
  const bool skip = fields.boolean("skip_special_tokens").value_or(true);
  const OrderedJson* tokens = fields.find("tokens");
  if (tokens == nullptr) refuse_field("tokens", "is required");
  const int64_t vocab_size = backend.config().vocab_size;
  OrderedJson out;
  if (tokens->is_array() && !tokens->empty() && (*tokens)[0].is_array()) {
    out["text"] = OrderedJson::array();
    for (size_t i = 0; i < tokens->size(); ++i) {
      const auto ids = read_ids((*tokens)[i], fmt::format("tokens.{}", i), vocab_size);
      out["text"].push_back(backend.tokenizer().decode(ids, skip));
    }
    return json_response(out);
  }
  out["text"] = backend.tokenizer().decode(read_ids(*tokens, "tokens", vocab_size), skip);
  return json_response(out);
}

HttpResponse apply_template(Service& service, const HttpRequest& request) {
  const OrderedJson body = parse_ordered_json(request.body, "request body");
  Fields fields(body, "");
  refuse_unavailable(fields);
  OrderedJson out;
  out["prompt"] = render_chat(fields, service).text;
  return json_response(out);
}

}  // namespace erne::server
