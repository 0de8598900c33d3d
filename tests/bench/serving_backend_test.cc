// Bodies per backend and the timing rules of spec bench.md 1.6, with hand-set arrival times.
#include "bench/serving_backend.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/json.h"

namespace erne::bench {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

BenchRequest request() {
  BenchRequest r;
  r.text = "hello";
  r.ids = {5, 6};
  r.prompt_len = 2;
  r.output_len = 7;
  return r;
}

Json body_of(const char* backend, const BodyOptions& options) {
  return parse_json(request_body(find_backend(backend), request(), 7, options), "body");
}

std::string event(const std::string& json) { return "data: " + json + "\n\n"; }

std::string native(const std::string& text, int tokens) {
  return event(
      fmt::format(R"({{"text":"{}","meta_info":{{"completion_tokens":{},"finish_reason":null}}}})",
                  text, tokens));
}

std::string completion(const std::string& text) {
  return event(fmt::format(R"({{"choices":[{{"index":0,"text":"{}"}}],"usage":null}})", text));
}

TEST(ServingBackend, TableOfNamesAndPorts) {
  EXPECT_EQ(find_backend("vllm").default_port, 8000);
  EXPECT_EQ(find_backend("lmdeploy-chat").default_port, 23333);
  EXPECT_EQ(find_backend("erne").api, Api::kGenerate);
  EXPECT_EQ(backend_path(find_backend("erne-oai").api), "/v1/completions");
  EXPECT_EQ(backend_path(find_backend("sglang-oai-chat").api), "/v1/chat/completions");
  try {
    find_backend("trt");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::kUnsupported);
  }
  EXPECT_THROW(find_backend("sglang-"), Error);
}

TEST(ServingBackend, GenerateBody) {
  const Json body = body_of("sglang", {});
  EXPECT_EQ(body["text"], "hello");
  EXPECT_EQ(body["sampling_params"],
            parse_json(R"({"temperature":0.0,"max_new_tokens":7,"ignore_eos":true})", "expected"));
  EXPECT_EQ(body["stream"], true);
  EXPECT_EQ(body["logprob_start_len"], -1);
  BodyOptions ids;
  ids.send_ids = true;
  EXPECT_EQ(body_of("erne", ids)["input_ids"], Json({5, 6}));
  EXPECT_FALSE(body_of("erne", ids).contains("text"));
}

TEST(ServingBackend, OpenAiBodies) {
  BodyOptions options;
  options.model = "m";
  EXPECT_EQ(
      body_of("vllm", options),
      parse_json(
          R"({"model":"m","prompt":"hello","temperature":0.0,"best_of":1,"max_tokens":7,"stream":true,
                           "ignore_eos":true})",
          "expected"));
  EXPECT_EQ(
      body_of("vllm-chat", options),
      parse_json(R"({"model":"m","messages":[{"role":"user","content":"hello"}],"temperature":0.0,
                           "max_completion_tokens":7,"stream":true,"ignore_eos":true})",
                 "expected"));
}

TEST(ServingBackend, ExtraBodyWins) {
  BodyOptions options;
  options.extra_body = R"({"max_tokens":3,"seed":9})";
  const Json body = body_of("erne-oai", options);
  EXPECT_EQ(body["max_tokens"], 3);
  EXPECT_EQ(body["seed"], 9);
  options.extra_body = "[1]";
  EXPECT_THROW(body_of("erne-oai", options), Error);
  options.extra_body = "{";
  EXPECT_THROW(body_of("erne-oai", options), Error);
}

TEST(AnswerReader, GenerateSharesTheGapAmongNewTokens) {
  AnswerReader reader(Api::kGenerate, true, 99, 10.0);
  reader.feed(native("", 0), 10.05);  // no text yet: not the first token
  reader.feed(native("a", 1), 10.1);
  reader.feed(native("abcd", 4), 10.4);
  reader.feed(native("abcd", 4), 10.5);  // nothing new: skipped, the clock of the gap stays
  reader.feed(native("abcde", 5), 10.6);
  reader.feed("data: [DONE]\n\n", 10.7);
  const RequestResult r = reader.finish(200, "", 11.0);
  EXPECT_TRUE(r.success) << r.error;
  EXPECT_NEAR(r.ttft_s, 0.1, 1e-9);
  EXPECT_NEAR(r.latency_s, 0.7, 1e-9);  // [DONE] counts, the closing of the connection does not
  EXPECT_THAT(r.itl_s, ElementsAre(DoubleNear(0.1, 1e-9), DoubleNear(0.1, 1e-9),
                                   DoubleNear(0.1, 1e-9), DoubleNear(0.2, 1e-9)));
  EXPECT_EQ(r.text, "abcde");
  EXPECT_EQ(r.output_len, 5);
}

TEST(AnswerReader, OpenAiOneEntryPerLaterChunkAndUsage) {
  AnswerReader reader(Api::kCompletions, true, 99, 0.0);
  reader.feed(completion("ab"), 1.0);
  reader.feed(completion(""), 1.5);
  reader.feed(completion("cd"), 2.0);
  reader.feed(event(R"({"choices":[],"usage":{"completion_tokens":4}})"), 2.5);
  reader.feed("data: [DONE]\n\n", 2.5);
  const RequestResult r = reader.finish(200, "", 2.5);
  EXPECT_TRUE(r.success);
  EXPECT_THAT(r.itl_s, ElementsAre(1.0));
  EXPECT_THAT(r.chunks, ElementsAre("cd"));
  EXPECT_EQ(r.text, "abcd");
  EXPECT_EQ(r.output_len, 4);
}

TEST(AnswerReader, ChatCountsReasoningAndContent) {
  AnswerReader reader(Api::kChat, true, 3, 0.0);
  reader.feed(event(R"({"choices":[{"delta":{"role":"assistant","content":""}}]})"), 0.5);
  reader.feed(event(R"({"choices":[{"delta":{"reasoning_content":"hm"}}]})"), 1.0);
  reader.feed(event(R"({"choices":[{"delta":{"content":"ok"}}]})"), 2.0);
  const RequestResult r = reader.finish(200, "", 2.0);
  EXPECT_EQ(r.text, "hmok");
  EXPECT_EQ(r.ttft_s, 1.0);
  EXPECT_EQ(r.output_len, 3);  // no usage: as asked for
}

TEST(AnswerReader, EverySplitOfTheBytesGivesTheSameText) {
  const std::string stream = ": ping\r\n\r\nevent: x\r\n" + completion("h\u00e9") +
                             completion("llo") + "data: [DONE]\r\n\r\n";
  for (size_t cut = 0; cut <= stream.size(); ++cut) {
    AnswerReader reader(Api::kCompletions, true, 2, 0.0);
    reader.feed(std::string_view(stream).substr(0, cut), 1.0);
    reader.feed(std::string_view(stream).substr(cut), 2.0);
    const RequestResult r = reader.finish(200, "", 2.0);
    ASSERT_TRUE(r.success) << cut << ": " << r.error;
    ASSERT_EQ(r.text, "h\u00e9llo") << cut;
  }
}

TEST(AnswerReader, WholeAnswerHasTtftEqualLatency) {
  AnswerReader reader(Api::kGenerate, false, 9, 1.0);
  reader.feed(R"({"text":"abc","meta_info":{"completion_)", 2.0);
  reader.feed(R"(tokens":3,"finish_reason":{"type":"length","length":3}}})", 3.0);
  const RequestResult r = reader.finish(200, "", 3.5);
  EXPECT_TRUE(r.success) << r.error;
  EXPECT_EQ(r.ttft_s, 2.5);
  EXPECT_EQ(r.latency_s, 2.5);
  EXPECT_EQ(r.output_len, 3);
}

struct Failure {
  const char* name;
  std::string bytes;
  int status;
  std::string transport;
  const char* expected;
};

TEST(AnswerReader, FailuresAreNamed) {
  const std::vector<Failure> failures = {
      {"error event", completion("a") + event(R"({"error":{"message":"out of pages","code":500}})"),
       200, "", "out of pages"},
      {"flat error", event(R"({"object":"error","message":"nope"})"), 200, "", "nope"},
      {"abort",
       event(
           R"({"text":"a","meta_info":{"finish_reason":{"type":"abort","message":"cancelled"}}})"),
       200, "", "cancelled"},
      {"status", R"({"error":{"message":"too long"}})", 400, "", "HTTP 400: too long"},
      {"status text", "nothing here\n", 404, "", "HTTP 404: nothing here"},
      {"not JSON", "data: {\"text\n\n", 200, "", "stream event"},
      {"not a stream", "<html>\n", 200, "", "did not answer with an event stream"},
      {"cut", completion("a"), 0, "transfer closed", "transfer closed"},
  };
  for (const Failure& f : failures) {
    SCOPED_TRACE(f.name);
    AnswerReader reader(f.name == std::string("abort") ? Api::kGenerate : Api::kCompletions, true,
                        2, 0.0);
    reader.feed(f.bytes, 1.0);
    const RequestResult r = reader.finish(f.status, f.transport, 2.0);
    EXPECT_FALSE(r.success);
    EXPECT_THAT(r.error, HasSubstr(f.expected));
  }
}

TEST(AnswerReader, WrongTypesDoNotThrow) {
  AnswerReader reader(Api::kGenerate, true, 2, 0.0);
  for (const char* json :
       {"[]", "3", "null", R"({"text":5})", R"({"text":"a","meta_info":7})",
        R"({"text":"b","meta_info":{"completion_tokens":"x"}})", R"({"choices":{}})"}) {
    reader.feed(event(json), 1.0);
  }
  EXPECT_TRUE(reader.finish(200, "", 2.0).success);
}

}  // namespace
}  // namespace erne::bench
