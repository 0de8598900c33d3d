// The goldens of tests/goldens: both forms of the look-alike tokenizer give every id and every
// text, and the default model's prompts come out as the reference encoded them.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "token/token_folder.h"

namespace erne {
namespace {

namespace fs = std::filesystem;

struct Line {
  std::string text;
  std::vector<int32_t> ids;
  std::string decoded;
  std::string decoded_skip;
};

std::vector<Line> golden_lines() {
  std::vector<Line> lines;
  const std::string all = read_file(kTokenizerGoldens / "golden.jsonl");
  for (size_t at = 0; at < all.size();) {
    const size_t end = std::min(all.find('\n', at), all.size());
    const Json json = parse_json(std::string_view(all).substr(at, end - at), "golden.jsonl");
    lines.push_back({json.at("text"), json.at("ids"), json.at("decoded"), json.at("decoded_skip")});
    at = end + 1;
  }
  return lines;
}

std::string stream(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, bool skip) {
  StreamDecoder decoder(tokenizer, skip);
  std::string out;
  for (const int32_t id : ids) out += decoder.push(id);
  return out + decoder.flush();
}

class Golden : public ::testing::TestWithParam<bool> {
 protected:
  static std::unique_ptr<Tokenizer> load() {
    return GetParam() ? load_golden_model() : Tokenizer::load(kTokenizerGoldens);
  }
};

TEST_P(Golden, EveryLineEncodesAndDecodes) {
  const auto tokenizer = load();
  const auto lines = golden_lines();
  ASSERT_EQ(lines.size(), 179u);
  for (const Line& line : lines) {
    SCOPED_TRACE(line.text);
    EXPECT_EQ(tokenizer->encode(line.text), line.ids);
    EXPECT_EQ(tokenizer->decode(line.ids, false), line.decoded);
    EXPECT_EQ(tokenizer->decode(line.ids, true), line.decoded_skip);
    EXPECT_EQ(stream(*tokenizer, line.ids, false), line.decoded);
    EXPECT_EQ(stream(*tokenizer, line.ids, true), line.decoded_skip);
  }
}

TEST_P(Golden, NamesAndMarks) {
  const auto tokenizer = load();
  EXPECT_EQ(tokenizer->vocab_size(), 6047);
  EXPECT_EQ(tokenizer->bos_id(), 1);
  EXPECT_EQ(tokenizer->eos_id(), 2);
  EXPECT_FALSE(tokenizer->add_bos());
  EXPECT_EQ(tokenizer->find("<|im_end|>"), 6040);
  EXPECT_EQ(tokenizer->find("no such token"), std::nullopt);
  EXPECT_TRUE(tokenizer->is_special(6000));
  EXPECT_FALSE(tokenizer->is_special(6011)) << "LOC tokens are not special";
  EXPECT_TRUE(tokenizer->is_special(6032)) << "LOC_BEGIN is";
  EXPECT_EQ(tokenizer->token_name(23), "<0x0A>");
  EXPECT_EQ(tokenizer->token_bytes(23), "\n");
  EXPECT_EQ(tokenizer->token_name(269), "▁▁");
  EXPECT_EQ(tokenizer->token_bytes(269), "  ");
  EXPECT_THROW(static_cast<void>(tokenizer->token_bytes(6047)), Error);
  EXPECT_THROW(static_cast<void>(tokenizer->token_bytes(-1)), Error);
}

INSTANTIATE_TEST_SUITE_P(Forms, Golden, ::testing::Bool(), [](const auto& param) {
  return param.param ? "TokenizerModel" : "TokenizerJson";
});

std::string chat_text(const Json& messages) {
  std::string text;
  if (messages.at(0).at("role") != "system") {
    text =
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
        "Face<|im_end|>\n";
  }
  for (const Json& message : messages) {
    text += "<|im_start|>" + message.at("role").get<std::string>() + "\n" +
            message.at("content").get<std::string>() + "<|im_end|>\n";
  }
  return text + "<|im_start|>assistant\n";
}

TEST(DefaultModel, PromptIdsAndText) {
  const char* folder = std::getenv("ERNE_DEFAULT_MODEL");
  if (folder == nullptr)
    GTEST_SKIP() << "set ERNE_DEFAULT_MODEL to the converted default model's folder";
  const auto tokenizer = Tokenizer::load(folder);
  const Json cases =
      parse_json(read_file(fs::path(ERNE_TESTS_DIR) / "goldens" / "default-model" / "shared.json"),
                 "shared.json");
  ASSERT_EQ(cases.size(), 8u);
  for (const Json& item : cases) {
    EXPECT_EQ(tokenizer->encode(chat_text(item.at("messages"))),
              item.at("prompt_ids").get<std::vector<int32_t>>());
    const auto completion = item.at("completion_ids").get<std::vector<int32_t>>();
    EXPECT_EQ(tokenizer->decode(completion, true), item.at("text").get<std::string>());
    EXPECT_EQ(stream(*tokenizer, completion, true), item.at("text").get<std::string>());
  }
}

}  // namespace
}  // namespace erne
