// Datasets with the small tokenizer of tests/goldens: lengths to the token, filters, and errors
// that say what to do.
#include "bench/dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <memory>

#include "base/error.h"
#include "token/tokenizer.h"

namespace erne::bench {
namespace {

using ::testing::HasSubstr;

class DatasetTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    tokenizer_ = Tokenizer::load(std::filesystem::path(ERNE_TESTS_DIR) / "goldens/tokenizer");
  }
  static void TearDownTestSuite() { tokenizer_.reset(); }

  void SetUp() override {
    folder_ =
        std::filesystem::temp_directory_path() / fmt::format("erne_dataset_test_{}", ::getpid());
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path write(const std::string& name, const std::string& content) {
    std::ofstream(folder_ / name) << content;
    return folder_ / name;
  }

  static std::vector<BenchRequest> make(const DatasetOptions& options) {
    NumpyRandom numbers(1);
    PythonRandom order(1);
    return make_dataset(options, *tokenizer_, numbers, order);
  }

  static std::string error_of(const DatasetOptions& options) {
    try {
      make(options);
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  }

  static DatasetOptions small(DatasetKind kind, std::filesystem::path path = {}) {
    DatasetOptions options;
    options.kind = kind;
    options.path = std::move(path);
    options.num_prompts = 10;
    options.random_input_len = 1000;
    options.random_output_len = 1000;
    return options;
  }

  static std::unique_ptr<Tokenizer> tokenizer_;
  std::filesystem::path folder_;
};

std::unique_ptr<Tokenizer> DatasetTest::tokenizer_;

// ShareGPT with `count` usable conversations, and two that must be skipped.
std::string sharegpt(int count) {
  std::string json = R"([{"conversations":[{"from":"human","value":"alone"}]},
                         {"conversation":[{"from":"human","value":""},{"from":"gpt","value":"x"}]})";
  for (int i = 0; i < count; ++i) {
    json += fmt::format(
        R"(,{{"id":"{0}","conversations":[{{"from":"human","value":"Question number {0}, what is it?"}},
                          {{"from":"gpt","value":"It is the answer to the question number {0}."}}]}})",
        i);
  }
  return json + "]";
}

TEST_F(DatasetTest, RandomIdsHaveThePublishedLengthsAndRise) {
  const auto requests = make(small(DatasetKind::kRandomIds));
  ASSERT_EQ(requests.size(), 10U);
  EXPECT_EQ(requests[0].prompt_len, 38);
  EXPECT_EQ(requests[0].output_len, 145);
  EXPECT_EQ(requests[9].prompt_len, 961);
  const int32_t vocab = tokenizer_->vocab_size();
  for (const BenchRequest& r : requests) {
    ASSERT_EQ(static_cast<int>(r.ids.size()), r.prompt_len);
    for (size_t j = 1; j < r.ids.size(); ++j) ASSERT_EQ(r.ids[j], (r.ids[j - 1] + 1) % vocab);
    ASSERT_FALSE(r.text.empty());
  }
}

TEST_F(DatasetTest, TokenizedPromptsAreNotDecoded) {
  DatasetOptions options = small(DatasetKind::kRandomIds);
  options.decode_prompt = false;
  for (const BenchRequest& r : make(options)) {
    EXPECT_TRUE(r.text.empty());
    EXPECT_EQ(static_cast<int>(r.ids.size()), r.prompt_len);
  }
}

TEST_F(DatasetTest, RandomRepeatsOrCutsTextsToTheLength) {
  const auto requests = make(small(DatasetKind::kRandom, write("s.json", sharegpt(30))));
  ASSERT_EQ(requests.size(), 10U);
  for (const BenchRequest& r : requests) {
    ASSERT_EQ(static_cast<int>(r.ids.size()), r.prompt_len);
    EXPECT_THAT(r.text, HasSubstr("Question number"));
  }
  // 236 tokens of a short question: it must come round again.
  EXPECT_EQ(requests[1].text.find("Question"), 0U);
  EXPECT_NE(requests[1].text.find("Question", 20), std::string::npos);
}

TEST_F(DatasetTest, ShareGptKeepsSecondTurnLengthAndFilters) {
  DatasetOptions options = small(DatasetKind::kShareGpt, write("s.json", sharegpt(5)));
  const auto requests = make(options);
  ASSERT_EQ(requests.size(), 5U);  // the one-turn and the empty conversation are gone
  for (const BenchRequest& r : requests) {
    EXPECT_EQ(r.prompt_len, static_cast<int>(tokenizer_->encode(r.text).size()));
    EXPECT_GE(r.output_len, 2);
  }
  options.output_len = 7;
  EXPECT_EQ(make(options)[0].output_len, 7);
  options.context_len = 8;
  EXPECT_THAT(error_of(options), HasSubstr("no usable conversation"));
  options.output_len = 3;
  EXPECT_THAT(error_of(options), HasSubstr("--sharegpt-output-len must be at least 4, got 3"));
}

TEST_F(DatasetTest, CustomReadsJsonLinesAndAddsTheSuffix) {
  DatasetOptions options = small(
      DatasetKind::kCustom,
      write(
          "c.jsonl",
          R"({"conversations":[{"content":"Say hello to me.Assistant:"},{"content":"Hello to you, friend."}]}

{"conversations":[{"content":"Only one turn"}]}
)"));
  const auto requests = make(options);
  ASSERT_EQ(requests.size(), 1U);
  EXPECT_EQ(requests[0].text, "Say hello to me.Assistant:");
  EXPECT_EQ(requests[0].output_len,
            static_cast<int>(tokenizer_->encode("Hello to you, friend.").size()));
  options.prompt_suffix = " Now.";
  EXPECT_EQ(make(options)[0].text, "Say hello to me. Now.Assistant:");
}

TEST_F(DatasetTest, ErrorsNameFileAndRemedy) {
  EXPECT_THROW(check_dataset(DatasetKind::kRandom, ""), Error);
  EXPECT_THROW(check_dataset(DatasetKind::kCustom, "/no/such/file"), Error);
  EXPECT_NO_THROW(check_dataset(DatasetKind::kRandomIds, ""));
  EXPECT_THAT(error_of(small(DatasetKind::kRandom)), HasSubstr("--dataset-name random-ids"));
  EXPECT_THAT(error_of(small(DatasetKind::kRandom)), HasSubstr("--dataset-path"));
  EXPECT_THAT(error_of(small(DatasetKind::kCustom)), HasSubstr("--dataset-path"));
  EXPECT_THAT(error_of(small(DatasetKind::kCustom, folder_ / "absent")), HasSubstr("absent"));
  EXPECT_THAT(error_of(small(DatasetKind::kCustom, write("bad", "{}\n{\"conversations\":"))),
              HasSubstr("bad line 2"));
  EXPECT_THAT(error_of(small(DatasetKind::kShareGpt, write("o", "{}"))), HasSubstr("JSON array"));
  EXPECT_THAT(error_of(small(DatasetKind::kShareGpt,
                             write("n", R"([{"conversations":[{"value":3},{"value":"a"}]}])"))),
              HasSubstr("must be a string"));
  DatasetOptions none = small(DatasetKind::kRandomIds);
  none.num_prompts = 0;
  EXPECT_THAT(error_of(none), HasSubstr("--num-prompts"));
}

TEST_F(DatasetTest, Names) {
  EXPECT_EQ(parse_dataset_kind("random-ids"), DatasetKind::kRandomIds);
  EXPECT_EQ(dataset_name(DatasetKind::kCustom), "custom");
  try {
    parse_dataset_kind("mooncake");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::kUnsupported);
    EXPECT_THAT(e.what(), HasSubstr("mooncake"));
  }
  EXPECT_THROW(parse_dataset_kind("sharegtp"), Error);
}

}  // namespace
}  // namespace erne::bench
