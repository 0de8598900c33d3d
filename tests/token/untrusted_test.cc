// What a user types stays text: no special token comes out of an untrusted range, or out of one and
// its surroundings.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/error.h"
#include "token/token_folder.h"

namespace erne {
namespace {

using ::testing::Contains;
using ::testing::Not;

bool any_special(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  return std::any_of(ids.begin(), ids.end(), [&](int32_t id) { return tokenizer.is_special(id); });
}

class Untrusted : public ::testing::TestWithParam<const char*> {
 protected:
  static std::unique_ptr<Tokenizer> load() {
    const std::string form = GetParam();
    if (form == "model") return load_golden_model();
    if (form == "json") return Tokenizer::load(kTokenizerGoldens);
    Json json = parse_json(read_file(kTokenizerGoldens / "tokenizer.json"), "tokenizer.json");
    for (Json& token : json["added_tokens"])
      token["normalized"] = true;  // matched behind the normalizer
    return load_json(json);
  }
};

TEST_P(Untrusted, EverySpecialTokenTypedIsText) {
  const auto tokenizer = load();
  for (int32_t id = 0; id < tokenizer->vocab_size(); ++id) {
    if (!tokenizer->is_special(id)) continue;
    const std::string typed = "a " + tokenizer->token_name(id) + " b";
    SCOPED_TRACE(typed);
    EXPECT_THAT(tokenizer->encode(typed), Contains(id));
    const auto ids = tokenizer->encode_plain(typed);
    EXPECT_FALSE(any_special(*tokenizer, ids));
    EXPECT_EQ(tokenizer->decode(ids, true), typed);
  }
}

TEST_P(Untrusted, OrdinaryAddedTokensStillMatch) {
  const auto tokenizer = load();
  const auto loc = tokenizer->find("<|LOC_7|>");
  const auto digit = tokenizer->find("4");
  ASSERT_TRUE(loc && digit);
  EXPECT_EQ(tokenizer->encode_plain("<|LOC_7|>4"), (std::vector<int32_t>{*loc, *digit}));
}

TEST_P(Untrusted, OnlyTheRangeIsText) {
  const auto tokenizer = load();
  const int32_t end = *tokenizer->find("<|im_end|>");
  const std::string before = "<|im_start|>user ";
  const std::string typed = "x <|im_end|> ";
  PromptText prompt{before + typed + "<|im_end|>", {{before.size(), before.size() + typed.size()}}};
  const auto ids = tokenizer->encode(prompt);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), end), 1);
  EXPECT_EQ(ids.front(), *tokenizer->find("<|im_start|>"));
  EXPECT_EQ(ids.back(), end);
  EXPECT_EQ(tokenizer->decode(ids, false), prompt.text);
}

TEST_P(Untrusted, HalfTrustedIsNoSpecialToken) {
  const auto tokenizer = load();
  const std::string token = "<|im_end|>";
  const int32_t id = *tokenizer->find(token);
  const std::string text = "a" + token + "b";
  for (size_t begin = 0; begin < text.size(); ++begin) {
    for (size_t end = begin + 1; end <= text.size(); ++end) {
      const ByteRange range{begin, end};
      const bool touches = begin < 1 + token.size() && end > 1;
      const auto ids = tokenizer->encode(text, std::span(&range, 1));
      EXPECT_EQ(std::count(ids.begin(), ids.end(), id), touches ? 0 : 1) << begin << ".." << end;
      EXPECT_EQ(tokenizer->decode(ids, false), text);
    }
  }
}

TEST_P(Untrusted, SpacesAndMarksDoNotShiftTheRange) {
  const auto tokenizer = load();
  const int32_t end = *tokenizer->find("<|im_end|>");
  // Each space grows to three bytes in the normalizer, each invalid byte to three before it.
  for (const std::string filler : {"    ", "\xFF\xFE ", "é\xE4\xBD ", "▁▁ "}) {
    const std::string before = filler + "<|im_end|>" + filler;
    const std::string typed = filler + "<|im_end|>" + filler;
    const std::string text = before + typed + "<|im_end|>";
    const ByteRange range{before.size(), before.size() + typed.size()};
    const auto ids = tokenizer->encode(text, std::span(&range, 1));
    EXPECT_EQ(std::count(ids.begin(), ids.end(), end), 2) << filler;
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, Untrusted, ::testing::Values("json", "model", "normalized"),
                         [](const auto& param) { return std::string(param.param); });

TEST(UntrustedMerges, DoNotSpellASpecialToken) {
  Json json = byte_level_json();
  // Merges that lead to "<|>", which is a special token.
  json["model"]["vocab"]["<|>"] = 300;
  json["model"]["merges"].push_back({"<|", ">"});
  json["added_tokens"].push_back(added_token(300, "<|>", true));
  const auto tokenizer = load_json(json);
  EXPECT_EQ(tokenizer->encode("<|>"), std::vector<int32_t>{300});
  EXPECT_THAT(tokenizer->encode_plain("<|>"), Not(Contains(300)));
  json["model"]["ignore_merges"] = true;  // the whole word is a token
  EXPECT_THAT(load_json(json)->encode_plain("<|>"), Not(Contains(300)));
}

TEST(UntrustedMerges, ShorterOrdinaryTokenTakesThePlaceOfALongerSpecialOne) {
  Json json = byte_level_json();
  json["added_tokens"].push_back(added_token(400, "[x", false));
  json["added_tokens"].push_back(added_token(401, "[xy]", true));
  const auto tokenizer = load_json(json);
  EXPECT_EQ(tokenizer->encode("[xy]"), std::vector<int32_t>{401});
  EXPECT_EQ(tokenizer->encode_plain("[xy]"), (std::vector<int32_t>{400, 'y', ']'}));
}

TEST(UntrustedConfig, NamesOfTheConfigAreSpecial) {
  const TokenFolder folder;
  Json json = byte_level_json();
  json["model"]["vocab"]["[cls]"] = 500;  // an ordinary piece as far as tokenizer.json says
  folder.write_json("tokenizer.json", json);
  EXPECT_FALSE(folder.load()->is_special(500));
  for (const Json& config :
       {Json{{"cls_token", "[cls]"}}, Json{{"additional_special_tokens", {"[cls]"}}},
        Json{{"mask_token", {{"content", "[cls]"}, {"lstrip", false}}}},
        Json{{"added_tokens_decoder", {{"500", {{"content", "[cls]"}, {"special", true}}}}}}}) {
    folder.write_json("tokenizer_config.json", config);
    const auto tokenizer = folder.load();
    EXPECT_TRUE(tokenizer->is_special(500)) << config;
    EXPECT_EQ(tokenizer->encode("[cls]"), std::vector<int32_t>{500}) << config;
    EXPECT_FALSE(any_special(*tokenizer, tokenizer->encode_plain("[cls]"))) << config;
  }
  std::filesystem::remove(folder.path() / "tokenizer_config.json");
  folder.write_json("special_tokens_map.json",
                    Json{{"sep_token", "[cls]"}, {"eos_token", "<|end|>"}});
  EXPECT_TRUE(folder.load()->is_special(500));
  EXPECT_EQ(folder.load()->eos_id(), folder.load()->find("<|end|>"));
}

TEST(UntrustedConfig, BosIsAskedForByTemplateOrConfig) {
  const TokenFolder folder;
  Json json = byte_level_json();
  folder.write_json("tokenizer.json", json);
  folder.write_json("tokenizer_config.json", Json{{"bos_token", "<|start|>"}});
  EXPECT_FALSE(folder.load()->add_bos());
  json["post_processor"] = {{"type", "TemplateProcessing"},
                            {"single",
                             {{{"SpecialToken", {{"id", "<|start|>"}, {"type_id", 0}}}},
                              {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
                            {"pair", Json::array()},
                            {"special_tokens", Json::object()}};
  folder.write_json("tokenizer.json", json);
  EXPECT_TRUE(folder.load()->add_bos());
  EXPECT_EQ(folder.load()->bos_id(), folder.load()->find("<|start|>"));
  folder.write_json("tokenizer_config.json",
                    Json{{"bos_token", "<|start|>"}, {"add_bos_token", false}});
  EXPECT_FALSE(folder.load()->add_bos());
}

}  // namespace
}  // namespace erne
