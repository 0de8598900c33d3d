// What is refused, with which status and which path; and what must not be.
#include "server/api_fixture.h"

namespace erne::server {
namespace {

struct Bad {
  const char* path;
  const char* body;
  const char* param;  ///< "" where it is null
};

class Validation : public ApiFixture {
 protected:
  void expect_refused(const Bad& bad) {
    const HttpResponse response = post(bad.path, bad.body);
    EXPECT_EQ(response.status, 400) << bad.body << "\n" << response.body;
    const OrderedJson error = error_of(response);
    EXPECT_EQ(error.at("type"), "BadRequestError");
    const std::string param =
        error.at("param").is_null() ? "" : error.at("param").get<std::string>();
    EXPECT_EQ(param, bad.param) << bad.body << "\n" << response.body;
    EXPECT_NE(error.at("message").get<std::string>(), "");
  }
};

#define CHAT(rest) \
  "/v1/chat/completions", R"({"messages":[{"role":"user","content":"hi"}],)" rest "}"
#define MESSAGES(list) "/v1/chat/completions", R"({"messages":)" list "}"

TEST_F(Validation, RefusesWrongValuesWithTheirPath) {
  const Bad kCases[] = {
      {"/v1/chat/completions", "{", ""},
      {"/v1/chat/completions", "[]", "body"},
      {"/v1/chat/completions", "{}", "messages"},
      {"/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":\"\xFF\"}]}", ""},
      {MESSAGES("[]"), "messages"},
      {MESSAGES("7"), "messages"},
      {MESSAGES("[7]"), "messages.0"},
      {MESSAGES(R"([{"content":"x"}])"), "messages.0.role"},
      {MESSAGES(R"([{"role":"robot","content":"x"}])"), "messages.0.role"},
      {MESSAGES(R"([{"role":"user"}])"), "messages.0.content"},
      {MESSAGES(R"([{"role":"user","content":5}])"), "messages.0.content"},
      {MESSAGES(R"([{"role":"user","content":[{"type":"text"}]}])"), "messages.0.content.0.text"},
      {MESSAGES(
           R"([{"role":"user","content":"a"},{"role":"user","content":[{"type":"image_url","image_url":{}}]}])"),
       "messages.1.content.0"},
      {MESSAGES(R"([{"role":"tool","content":"a"}])"), "messages"},  // the template raises
      {CHAT(R"("temperature":-0.1)"), "temperature"},
      {CHAT(R"("temperature":"hot")"), "temperature"},
      {CHAT(R"("temperature":1e999)"), ""},
      {CHAT(R"("temperature":NaN)"), ""},
      {CHAT(R"("top_p":0)"), "top_p"},
      {CHAT(R"("top_p":1.5)"), "top_p"},
      {CHAT(R"("top_k":0)"), "top_k"},
      {CHAT(R"("top_k":1.5)"), "top_k"},
      {CHAT(R"("min_p":2)"), "min_p"},
      {CHAT(R"("frequency_penalty":-3)"), "frequency_penalty"},
      {CHAT(R"("presence_penalty":3)"), "presence_penalty"},
      {CHAT(R"("repetition_penalty":0)"), "repetition_penalty"},
      {CHAT(R"("n":0)"), "n"},
      {CHAT(R"("n":1000000)"), "n"},
      {CHAT(R"("n":true)"), "n"},
      {CHAT(R"("seed":"x")"), "seed"},
      {CHAT(R"("max_tokens":0)"), "max_tokens"},
      {CHAT(R"("max_completion_tokens":99999999999999999999)"), "max_completion_tokens"},
      {CHAT(R"("max_tokens":2,"min_tokens":3)"), "min_tokens"},
      {CHAT(R"("stop":"")"), "stop.0"},
      {CHAT(R"("stop":["a",1])"), "stop.1"},
      {CHAT(R"("stop_token_ids":[257])"), "stop_token_ids.0"},
      {CHAT(R"("logit_bias":{"257":1})"), "logit_bias.257"},
      {CHAT(R"("logit_bias":{"5":101})"), "logit_bias.5"},
      {CHAT(R"("top_logprobs":3)"), "top_logprobs"},
      {CHAT(R"("logprobs":true,"top_logprobs":21)"), "top_logprobs"},
      {CHAT(R"("stream":"yes")"), "stream"},
      {CHAT(R"("stream_options":7)"), "stream_options"},
      {CHAT(R"("chat_template_kwargs":[])"), "chat_template_kwargs"},
      {CHAT(R"("continue_final_message":true)"), "continue_final_message"},
      {"/v1/completions", "{}", "prompt"},
      {"/v1/completions", R"({"prompt":[]})", "prompt"},
      {"/v1/completions", R"({"prompt":""})", "prompt"},
      {"/v1/completions", R"({"prompt":[1,-1]})", "prompt.1"},
      {"/v1/completions", R"({"prompt":["a",""]})", "prompt.1"},
      {"/v1/completions", R"({"prompt":"a","best_of":5})", "best_of"},
      {"/v1/completions", R"({"prompt":"a","suffix":"b"})", "suffix"},
      {"/v1/completions", R"({"prompt":"a","logprobs":true})", "logprobs"},
      {"/generate", "{}", "text"},
      {"/generate", R"({"text":"a","input_ids":[1]})", "text"},
      {"/generate", R"({"text":[1]})", "text.0"},
      {"/generate", R"({"text":["a",[1]]})", "text.1"},
      {"/generate", R"({"input_ids":"a"})", "input_ids"},
      {"/generate", R"({"input_ids":["a"]})", "input_ids.0"},
      {"/generate", R"({"input_ids":[[1],"a"]})", "input_ids.1"},
      {"/generate", R"({"input_ids":[[1],2]})", "input_ids.1"},
      {"/generate", R"({"input_ids":[1,[2]]})", "input_ids.1"},
      {"/generate", R"({"text":"a","rid":"a b"})", "rid"},
      {"/generate", R"({"text":"a","rid":"a\n{}"})", "rid"},
      {"/generate", R"({"text":"a","rid":"ä"})", "rid"},
      {"/generate", R"({"text":"a","sampling_params":{"temperature":-1}})",
       "sampling_params.temperature"},
      {"/generate", R"({"text":["a","b"],"sampling_params":[{}]})", "sampling_params"},
      {"/generate", R"({"text":["a"],"sampling_params":[{"n":0}]})", "sampling_params.0.n"},
      {"/tokenize", R"({"prompt":1})", "prompt"},
      {"/detokenize", R"({"tokens":"x"})", "tokens"},
      {"/abort_request", "{}", "rid"},
  };
  for (const Bad& bad : kCases) expect_refused(bad);
}

TEST_F(Validation, RefusesFeaturesByName) {
  const Bad kCases[] = {
      {CHAT(R"("tools":[{"type":"function","function":{"name":"f"}}])"), "tools"},
      {CHAT(R"("tool_choice":"required")"), "tool_choice"},
      {CHAT(R"("response_format":{"type":"json_object"})"), "response_format.type"},
      {CHAT(R"("regex":"a+")"), "regex"},
      {CHAT(R"("ebnf":"root ::= 1")"), "ebnf"},
      {CHAT(R"("guided_json":{"type":"object"})"), "guided_json"},
      {CHAT(R"("structured_outputs":{"regex":"a"})"), "structured_outputs"},
      {CHAT(R"("stop_regex":"a")"), "stop_regex"},
      {CHAT(R"("lora_path":"x")"), "lora_path"},
      {CHAT(R"("session_params":{"id":"s"})"), "session_params"},
      {CHAT(R"("return_hidden_states":true)"), "return_hidden_states"},
      {CHAT(R"("reasoning_max_tokens":5)"), "reasoning_max_tokens"},
      {"/generate", R"({"text":"a","image_data":"x"})", "image_data"},
      {"/generate", R"({"text":"a","sampling_params":{"json_schema":"{}"}})",
       "sampling_params.json_schema"},
  };
  for (const Bad& bad : kCases) {
    expect_refused(bad);
    EXPECT_NE(post(bad.path, bad.body).body.find("not available in this version"),
              std::string::npos)
        << bad.body;
  }
}

TEST_F(Validation, AcceptsWhatClientsSend) {
  const char* kGood[] = {
      R"("tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"none")",
      R"("tool_choice":"auto","tools":[])",
      R"("response_format":{"type":"text"})",
      R"("unknown_field":{"deep":[1]},"user":"u","metadata":{"a":"b"})",
      R"("temperature":null,"stop":null,"seed":-5,"n":1.0)",
      R"("seed":18446744073709551615)",
      R"("logit_bias":{"65":-100},"regex":null,"guided_json":{})",
      R"("return_hidden_states":false,"separate_reasoning":false)",
  };
  for (const char* fields : kGood) {
    const std::string body =
        R"({"messages":[{"role":"user","content":"hi"}],)" + std::string(fields) + "}";
    EXPECT_EQ(post("/v1/chat/completions", body).status, 200) << body;
  }
}

TEST_F(Validation, ContextErrorsCarryPhraseAndCode) {
  const std::string longer(1000, 'x');
  struct Case {
    const char* path;
    std::string body;
    const char* param;
  };
  const Case cases[] = {
      {"/v1/completions", R"({"prompt":")" + longer + R"("})", "prompt"},
      {"/v1/completions", R"({"prompt":"a","max_tokens":1000})", "max_tokens"},
      {"/generate", R"({"text":")" + longer + R"("})", "text"},
      {"/v1/chat/completions", R"({"messages":[{"role":"user","content":")" + longer + R"("}]})",
       "messages"},
  };
  for (const Case& c : cases) {
    const HttpResponse response = post(c.path, c.body);
    EXPECT_EQ(response.status, 400);
    EXPECT_EQ(error_of(response).at("param"), c.param);
    EXPECT_EQ(error_of(response).at("code"), "context_length_exceeded");
    EXPECT_NE(response.body.find("maximum context length"), std::string::npos);
  }
}

TEST_F(Validation, PromptsTimesChoicesAreBounded) {
  std::string prompts = R"(["a")";
  for (int i = 1; i < 17; ++i) prompts += R"(,"a")";
  prompts += "]";  // 17 * 128 = 2176
  const std::string openai = R"({"n":128,"prompt":)" + prompts + "}";
  expect_refused({"/v1/completions", openai.c_str(), "n"});
  EXPECT_NE(post("/v1/completions", openai).body.find("2176"), std::string::npos);
  const std::string native = R"({"sampling_params":{"n":128},"text":)" + prompts + "}";
  expect_refused({"/generate", native.c_str(), "sampling_params.n"});
}

TEST_F(Validation, DeepNestingIsRefused) {
  const std::string deep(100000, '[');
  EXPECT_EQ(post("/v1/chat/completions", R"({"messages":)" + deep).status, 400);
}

TEST_F(Validation, LiveRidIsRefused) {
  backend_->set_held(true);
  const std::string body = R"({"rid":"same","prompt":"a"})";
  const auto first = send("POST", "/v1/completions", body);
  ASSERT_TRUE(backend_->wait_live(1));
  expect_refused({"/v1/completions", body.c_str(), "rid"});
  backend_->set_held(false);
  EXPECT_EQ(first->wait().status, 200);
  EXPECT_EQ(post("/v1/completions", body).status, 200);  // free again
}

TEST_F(Validation, FullQueueIs503WithRetryAfterAndNothingStays) {
  backend_->set_max_live(1);
  backend_->set_held(true);
  const auto first = send("POST", "/v1/completions", R"({"prompt":"a"})");
  ASSERT_TRUE(backend_->wait_live(1));
  const HttpResponse refused = post("/v1/completions", R"({"prompt":"b","stream":true})");
  EXPECT_EQ(refused.status, 503);
  EXPECT_NE(header_of(refused, "Retry-After"), "");
  EXPECT_EQ(error_of(refused).at("type"), "ServiceUnavailableError");
  EXPECT_EQ(service_->live.size(), 1U);
  backend_->set_held(false);
  EXPECT_EQ(first->wait().status, 200);
}

TEST_F(Validation, BatchIsAdmittedWholeOrNotAtAll) {
  backend_->set_max_live(2);
  backend_->set_held(true);
  EXPECT_EQ(post("/v1/completions", R"({"prompt":["a","b","c"]})").status, 503);
  EXPECT_TRUE(backend_->wait_live(0));
}

TEST_F(Validation, AbortByPrefix) {
  backend_->set_held(true);
  const auto one = send("POST", "/v1/completions", R"({"rid":"job-1","prompt":"a"})");
  const auto two = send("POST", "/v1/completions", R"({"rid":"other","prompt":"a","stream":true})");
  ASSERT_TRUE(backend_->wait_live(2));
  const HttpResponse aborted = post("/abort_request", R"({"rid":"job"})");
  EXPECT_EQ(aborted.status, 200);
  EXPECT_EQ(aborted.body, "{}");
  EXPECT_EQ(one->wait().status, 503);  // nothing was produced
  EXPECT_EQ(service_->live.size(), 1U);
  EXPECT_EQ(call("POST", "/flush_cache").status, 400);
  EXPECT_EQ(post("/abort_request", R"({"abort_all":true})").status, 200);
  const HttpResponse stream = two->wait();
  EXPECT_EQ(stream.status, 200);
  EXPECT_NE(stream.body.find(R"({"error":{)"), std::string::npos);
  EXPECT_TRUE(stream.body.ends_with("data: [DONE]\n\n"));
  ASSERT_TRUE(backend_->wait_live(0));
  EXPECT_EQ(call("POST", "/flush_cache").status, 200);
}

}  // namespace
}  // namespace erne::server
