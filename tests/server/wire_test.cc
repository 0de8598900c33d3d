// Golden answers of every generating route: the exact JSON that clients parse.
#include <regex>

#include "server/api_fixture.h"

namespace erne::server {
namespace {

/// The answer without what differs from run to run.
std::string steady(const std::string& body) {
  std::string out = std::regex_replace(body, std::regex("\"created\":[0-9]+"), "\"created\":1");
  out = std::regex_replace(out, std::regex("\"e2e_latency\":[0-9.e-]+"), "\"e2e_latency\":0");
  return out;
}

class Wire : public ApiFixture {};

TEST_F(Wire, EchoIsThePromptThatRan) {
  ServerOptions options;
  options.allow_auto_truncate = true;
  start(options);
  backend_->set_reply("!");
  const std::string body = R"({"prompt":")" + std::string(1200, 'x') + R"(","echo":true})";
  const auto answer = parse_ordered_json(post("/v1/completions", body).body, "answer");
  EXPECT_EQ(answer["choices"][0]["text"], std::string(999, 'x') + "!");
}

constexpr const char* kChat =
    R"({"rid":"r1","model":"x","messages":[{"role":"user","content":"hi"}])";

TEST_F(Wire, Chat) {
  backend_->set_reply("Hé");
  const HttpResponse response = post("/v1/chat/completions", std::string(kChat) + "}");
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(
      steady(response.body),
      R"({"id":"r1","object":"chat.completion","created":1,"model":"x","choices":[{"index":0,"message":{"role":"assistant",)"
      R"("content":"Hé","reasoning_content":null,"tool_calls":null},"logprobs":null,"finish_reason":"stop",)"
      R"("matched_stop":256}],"usage":{"prompt_tokens":20,"completion_tokens":4,"total_tokens":24,"reasoning_tokens":0,)"
      R"("prompt_tokens_details":null,"completion_tokens_details":{"reasoning_tokens":0}},)"
      R"("metadata":{"weight_version":"default"}})");
  EXPECT_EQ(backend_->tokenizer().decode(backend_->last().prompt_ids, true),
            "user: hi\nassistant: ");
}

TEST_F(Wire, ChatStream) {
  backend_->set_reply("Hé");
  const HttpResponse response =
      post("/v1/chat/completions",
           std::string(kChat) + R"(,"stream":true,"stream_options":{"include_usage":true}})");
  EXPECT_EQ(response.content_type, "text/event-stream");
  EXPECT_EQ(response.ping, ": ping\n\n");
  const std::string head =
      R"(data: {"id":"r1","object":"chat.completion.chunk","created":1,"model":"x","choices":[)";
  EXPECT_EQ(
      steady(response.body),
      head +
          R"({"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":null})" +
          "\n\n" + head +
          R"({"index":0,"delta":{"content":"H"},"logprobs":null,"finish_reason":null}],"usage":null})" +
          "\n\n" + head +
          R"({"index":0,"delta":{"content":"é"},"logprobs":null,"finish_reason":null}],"usage":null})" +
          "\n\n" + head +
          R"({"index":0,"delta":{},"logprobs":null,"finish_reason":"stop","matched_stop":256}],"usage":null})" +
          "\n\n" + head +
          R"(],"usage":{"prompt_tokens":20,"completion_tokens":4,"total_tokens":24,"reasoning_tokens":0,)"
          R"("prompt_tokens_details":null,"completion_tokens_details":{"reasoning_tokens":0}}})" +
          "\n\ndata: [DONE]\n\n");
}

TEST_F(Wire, ChatStreamEqualsWhole) {
  backend_->set_reply("naïve 😀 text");
  const std::string body = std::string(kChat) + R"(,"n":3,"stream":)";
  const OrderedJson whole =
      parse_ordered_json(post("/v1/chat/completions", body + "false}").body, "whole");
  const std::string events = post("/v1/chat/completions", body + "true}").body;
  std::vector<std::string> texts(3);
  int finished = 0;
  size_t at = 0;
  while ((at = events.find("data: {", at)) != std::string::npos) {
    const size_t end = events.find('\n', at);
    const OrderedJson chunk = parse_ordered_json(events.substr(at + 6, end - at - 6), "event");
    EXPECT_FALSE(chunk.contains("usage"));
    const OrderedJson& choice = chunk["choices"][0];
    texts[choice["index"].get<size_t>()] += choice["delta"].value("content", "");
    finished += choice["finish_reason"].is_null() ? 0 : 1;
    at = end;
  }
  EXPECT_EQ(finished, 3);
  ASSERT_EQ(whole["choices"].size(), 3U);
  for (size_t i = 0; i < 3; ++i)
    EXPECT_EQ(texts[i], whole["choices"][i]["message"]["content"].get<std::string>());
  EXPECT_EQ(texts[2], "naïve 😀 text");
  EXPECT_EQ(whole["usage"]["prompt_tokens"], 20);  // counted once, not per choice
  EXPECT_EQ(whole["usage"]["completion_tokens"], 3 * 17);
}

TEST_F(Wire, ChatContinuousUsage) {
  const std::string events =
      post("/v1/chat/completions",
           std::string(kChat) +
               R"(,"stream":true,"max_tokens":2,"stream_options":{"continuous_usage_stats":true}})")
          .body;
  EXPECT_NE(events.find(R"("completion_tokens":1,)"), std::string::npos);
  EXPECT_NE(events.find(R"("completion_tokens":2,)"), std::string::npos);
  EXPECT_EQ(events.find(R"("choices":[])"), std::string::npos);
}

TEST_F(Wire, ChatLogprobs) {
  backend_->set_reply("\xC3\xA9");  // é: the bytes of each token are exact, its text is not
  const HttpResponse response =
      post("/v1/chat/completions",
           std::string(kChat) + R"(,"logprobs":true,"top_logprobs":2,"max_tokens":1})");
  const OrderedJson body = parse_ordered_json(response.body, "answer");
  EXPECT_EQ(
      dump_json(body["choices"][0]["logprobs"]),
      R"({"content":[{"token":"�","bytes":[195],"logprob":-0.5,"top_logprobs":[{"token":"�","bytes":[195],)"
      R"("logprob":-0.5},{"token":"A","bytes":[65],"logprob":-1.5}]}]})");
  EXPECT_EQ(body["choices"][0]["finish_reason"], "length");
  EXPECT_TRUE(body["choices"][0]["matched_stop"].is_null());
}

TEST_F(Wire, Completion) {
  backend_->set_reply("bc");
  const HttpResponse response = post(
      "/v1/completions", R"({"rid":"r2","prompt":"aé","echo":true,"logprobs":1,"max_tokens":2})");
  EXPECT_EQ(
      steady(response.body),
      R"({"id":"r2","object":"text_completion","created":1,"model":"default","choices":[{"index":0,"text":"aébc",)"
      R"("logprobs":{"tokens":["a","�","�","b","c"],"token_logprobs":[null,-2.0,-2.0,-0.5,-0.5],)"
      R"("top_logprobs":[null,{"�":-2.0},{"�":-2.0},{"b":-0.5},{"c":-0.5}],"text_offset":[0,1,2,2,3]},)"
      R"("finish_reason":"length","matched_stop":null}],"usage":{"prompt_tokens":3,"completion_tokens":2,)"
      R"("total_tokens":5,"reasoning_tokens":0,"prompt_tokens_details":null,)"
      R"("completion_tokens_details":{"reasoning_tokens":0}}})");
}

TEST_F(Wire, CompletionBatchOrder) {
  const HttpResponse response =
      post("/v1/completions", R"({"prompt":["a","bb"],"n":2,"echo":true,"max_tokens":1,"seed":7})");
  const OrderedJson body = parse_ordered_json(response.body, "answer");
  ASSERT_EQ(body["choices"].size(), 4U);
  const std::vector<std::string> texts = {"aH", "aH", "bbH", "bbH"};
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(body["choices"][i]["index"], i);
    EXPECT_EQ(body["choices"][i]["text"], texts[i]);
  }
  EXPECT_EQ(body["usage"]["prompt_tokens"], 3);
  EXPECT_EQ(body["usage"]["completion_tokens"], 4);
}

TEST_F(Wire, CompletionStreamEndsWithFinish) {
  backend_->set_reply("ab");
  const std::string events =
      steady(post("/v1/completions", R"({"rid":"r","prompt":[97],"stream":true})").body);
  const std::string head =
      R"(data: {"id":"r","object":"text_completion","created":1,"model":"default","choices":[{"index":0,)";
  EXPECT_EQ(events,
            head + R"("text":"a","logprobs":null,"finish_reason":null}]})" + "\n\n" + head +
                R"("text":"b","logprobs":null,"finish_reason":null}]})" + "\n\n" + head +
                R"("text":"","logprobs":null,"finish_reason":"stop","matched_stop":256}]})" +
                "\n\ndata: [DONE]\n\n");
}

TEST_F(Wire, Generate) {
  backend_->set_reply("ab");
  const HttpResponse response = post(
      "/generate",
      R"({"rid":"g","input_ids":[97,98],"sampling_params":{"max_new_tokens":1},"return_logprob":true,"top_logprobs_num":1,)"
      R"("logprob_start_len":0,"return_text_in_logprobs":true})");
  EXPECT_EQ(
      steady(response.body),
      R"({"text":"a","output_ids":[97],"meta_info":{"id":"g","finish_reason":{"type":"length","length":1},"prompt_tokens":2,)"
      R"("completion_tokens":1,"cached_tokens":0,"weight_version":"default","total_retractions":0,"e2e_latency":0,)"
      R"("queue_time":0.0,"input_token_logprobs":[[null,97,"a"],[-2.0,98,"b"]],"output_token_logprobs":[[-0.5,97,"a"]],)"
      R"("input_top_logprobs":[[[-2.0,97,"a"]],[[-2.0,98,"b"]]],"output_top_logprobs":[[[-0.5,97,"a"]]]}})");
}

TEST_F(Wire, GenerateStreamIsCumulativeAndBatchesCarryAnIndex) {
  backend_->set_reply("ab");
  const std::string events = post("/generate", R"({"text":["x"],"stream":true})").body;
  EXPECT_NE(events.find(R"({"text":"a","output_ids":[97],)"), std::string::npos);
  EXPECT_NE(events.find(R"({"text":"ab","output_ids":[97,98],)"), std::string::npos);
  EXPECT_NE(events.find(R"("finish_reason":{"type":"stop","matched":256})"), std::string::npos);
  EXPECT_NE(events.find(R"("index":0})"), std::string::npos);
  EXPECT_TRUE(events.ends_with("data: [DONE]\n\n"));
}

TEST_F(Wire, TextRoutes) {
  EXPECT_EQ(post("/tokenize", R"({"prompt":"ab"})").body,
            R"({"tokens":[97,98],"count":2,"max_model_len":1000})");
  EXPECT_EQ(post("/v1/tokenize", R"({"prompt":["a","bc"]})").body,
            R"({"tokens":[[97],[98,99]],"count":[1,2],"max_model_len":1000})");
  EXPECT_EQ(post("/detokenize", R"({"tokens":[97,256]})").body, R"({"text":"a"})");
  EXPECT_EQ(post("/detokenize", R"({"tokens":[[97],[98]]})").body, R"({"text":["a","b"]})");
  EXPECT_EQ(post("/detokenize", R"({"tokens":[257]})").status, 400);
  EXPECT_EQ(
      post(
          "/apply-template",
          R"({"messages":[{"role":"developer","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}],)"
          R"("chat_template_kwargs":{"mood":"calm"}})")
          .body,
      R"x({"prompt":"system: a\nb\nassistant: (calm)"})x");
}

TEST_F(Wire, ModelDefaultsApplyUnlessTheRequestSays) {
  backend_->generation_.temperature = 0.25;
  backend_->generation_.top_k = 7;
  post("/v1/chat/completions", std::string(kChat) + R"(,"top_k":3})");
  EXPECT_EQ(backend_->last().sampling.temperature, 0.25);
  EXPECT_EQ(backend_->last().sampling.top_k, 3);
}

}  // namespace
}  // namespace erne::server
