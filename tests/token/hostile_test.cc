// Files that lie: every one ends in an Error that names the file and the cause.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "base/error.h"
#include "token/bpe_tokenizer.h"
#include "token/sentencepiece.h"
#include "token/token_folder.h"

namespace erne {
namespace {

using ::testing::HasSubstr;

template <typename Load>
void expect_error(const Load& load, Code code, const std::string& cause, const std::string& file) {
  SCOPED_TRACE(cause);
  try {
    static_cast<void>(load());
    ADD_FAILURE() << "loaded";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    EXPECT_THAT(e.what(), HasSubstr(cause));
    EXPECT_THAT(e.what(), HasSubstr(file));
  }
}

struct Change {
  const char* cause;  // part of the message
  Code code;
  std::function<void(Json&)> apply;
};

class HostileJson : public ::testing::TestWithParam<Change> {};

TEST_P(HostileJson, IsRefused) {
  Json json = byte_level_json();
  GetParam().apply(json);
  expect_error([&] { return load_json(json); }, GetParam().code, GetParam().cause,
               "tokenizer.json");
}

Json sequence(const char* key, Json steps) {
  return {{"type", "Sequence"}, {key, std::move(steps)}};
}
Json split(Json pattern, const char* behavior) {
  return {{"type", "Split"},
          {"pattern", std::move(pattern)},
          {"behavior", behavior},
          {"invert", false}};
}

constexpr Code kBad = Code::kCorrupt;
constexpr Code kNo = Code::kUnsupported;

INSTANTIATE_TEST_SUITE_P(
    Model, HostileJson,
    ::testing::Values(
        Change{"\"model\" is missing", kBad, [](Json& j) { j.erase("model"); }},
        Change{"an object was expected", kBad, [](Json& j) { j["model"] = 3; }},
        Change{"\"vocab\" must be an object", kBad,
               [](Json& j) { j["model"]["vocab"] = Json::array(); }},
        Change{"\"vocab\" is missing", kBad, [](Json& j) { j["model"].erase("vocab"); }},
        Change{"\"merges\" is missing", kBad, [](Json& j) { j["model"].erase("merges"); }},
        Change{"got -1", kBad, [](Json& j) { j["model"]["vocab"]["a"] = -1; }},
        Change{"got 2147483648", kBad, [](Json& j) { j["model"]["vocab"]["a"] = 2147483648U; }},
        Change{"got 18446744073709551615", kBad,
               [](Json& j) { j["model"]["vocab"]["a"] = UINT64_MAX; }},
        Change{"not a whole number", kBad, [](Json& j) { j["model"]["vocab"]["a"] = 1.5; }},
        Change{"not a whole number", kBad, [](Json& j) { j["model"]["vocab"]["a"] = "1"; }},
        Change{"id 98 is given to", kBad, [](Json& j) { j["model"]["vocab"]["a"] = 98; }},
        Change{"which is not in the vocabulary", kBad,
               [](Json& j) {
                 j["model"]["merges"].push_back({"x", "yz"});
               }},
        Change{"names \"xy\"", kBad,
               [](Json& j) {
                 j["model"]["merges"].push_back({"x", "y"});
               }},
        Change{"must be a pair", kBad,
               [](Json& j) {
                 j["model"]["merges"].push_back({"x", "y", "z"});
               }},
        Change{"must be a pair", kBad, [](Json& j) { j["model"]["merges"].push_back(7); }},
        Change{"one space between", kBad, [](Json& j) { j["model"]["merges"].push_back("a b c"); }},
        Change{"unk_token", kBad, [](Json& j) { j["model"]["unk_token"] = "<none>"; }},
        Change{"must be true or false", kBad, [](Json& j) { j["model"]["byte_fallback"] = 1; }},
        Change{"model type \"WordPiece\"", kNo, [](Json& j) { j["model"]["type"] = "WordPiece"; }},
        Change{"dropout", kNo, [](Json& j) { j["model"]["dropout"] = 0.1; }},
        Change{"dropout", kNo, [](Json& j) { j["model"]["dropout"] = "x"; }},
        Change{"continuing_subword_prefix", kNo,
               [](Json& j) { j["model"]["continuing_subword_prefix"] = "##"; }},
        Change{"end_of_word_suffix", kNo,
               [](Json& j) { j["model"]["end_of_word_suffix"] = "</w>"; }},
        Change{"field \"novelty\"", kNo, [](Json& j) { j["model"]["novelty"] = true; }},
        Change{"byte_fallback together", kNo, [](Json& j) { j["model"]["byte_fallback"] = true; }},
        Change{"\"<0x00>\" is not in", kBad, [](Json& j) {
                 j["model"]["byte_fallback"] = true;
                 j["pre_tokenizer"] = nullptr;
               }}));

INSTANTIATE_TEST_SUITE_P(
    AddedTokens, HostileJson,
    ::testing::Values(
        Change{"must be an array", kBad, [](Json& j) { j["added_tokens"] = "x"; }},
        Change{"added_tokens[0]", kBad, [](Json& j) { j["added_tokens"] = {5}; }},
        Change{"\"id\" is missing", kBad, [](Json& j) { j["added_tokens"][0].erase("id"); }},
        Change{"between 0 and", kBad, [](Json& j) { j["added_tokens"][0]["id"] = -7; }},
        Change{"between 0 and", kBad, [](Json& j) { j["added_tokens"][0]["id"] = 2147483648U; }},
        Change{"a whole number", kBad, [](Json& j) { j["added_tokens"][0]["id"] = 1e300; }},
        Change{"is empty", kBad, [](Json& j) { j["added_tokens"][0]["content"] = ""; }},
        Change{"must be a string", kBad, [](Json& j) { j["added_tokens"][0]["content"] = 1; }},
        Change{"must be true or false", kBad,
               [](Json& j) { j["added_tokens"][0]["special"] = "yes"; }},
        Change{"the vocabulary has \"a\" there", kBad,
               [](Json& j) { j["added_tokens"][0]["id"] = 'a'; }},
        Change{"another id for it", kBad,
               [](Json& j) {
                 j["added_tokens"][0]["content"] = "b";
                 j["added_tokens"][0]["id"] = 999;
               }},
        Change{"listed twice", kBad,
               [](Json& j) { j["added_tokens"].push_back(j["added_tokens"][0]); }}));

INSTANTIATE_TEST_SUITE_P(
    Steps, HostileJson,
    ::testing::Values(
        Change{"type \"NFKC\"", kNo,
               [](Json& j) {
                 j["normalizer"] = {{"type", "NFKC"}};
               }},
        Change{"normalizer[1]: type \"Lowercase\"", kNo,
               [](Json& j) {
                 const Json replace = {
                     {"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", "b"}};
                 j["normalizer"] = sequence("normalizers", {replace, {{"type", "Lowercase"}}});
               }},
        Change{"is empty", kBad,
               [](Json& j) {
                 j["normalizer"] = {
                     {"type", "Replace"}, {"pattern", {{"String", ""}}}, {"content", "b"}};
               }},
        Change{"Replace with a Regex", kNo,
               [](Json& j) {
                 j["normalizer"] = {
                     {"type", "Replace"}, {"pattern", {{"Regex", "a"}}}, {"content", "b"}};
               }},
        Change{"\"type\" is missing", kBad, [](Json& j) { j["normalizer"] = Json::object(); }},
        Change{"must be an array", kBad,
               [](Json& j) { j["normalizer"] = sequence("normalizers", 1); }},
        Change{"type \"BertPreTokenizer\"", kNo,
               [](Json& j) {
                 j["pre_tokenizer"] = {{"type", "BertPreTokenizer"}};
               }},
        Change{"Digits after ByteLevel", kNo,
               [](Json& j) {
                 j["pre_tokenizer"] =
                     sequence("pretokenizers", {j["pre_tokenizer"], {{"type", "Digits"}}});
               }},
        Change{"regular expression", kNo,
               [](Json& j) {
                 j["pre_tokenizer"] = split({{"Regex", "(unclosed"}}, "Isolated");
               }},
        Change{"regular expression", kNo,
               [](Json& j) {
                 j["pre_tokenizer"] = split({{"Regex", std::string(100000, 'a')}}, "Isolated");
               }},
        Change{"regular expression", kNo,
               [](Json& j) {
                 j["pre_tokenizer"] = split({{"Regex", std::string(5000, '(')}}, "Isolated");
               }},
        Change{"unknown behavior", kBad,
               [](Json& j) {
                 j["pre_tokenizer"] = split({{"Regex", "a"}}, "Sideways");
               }},
        Change{"one character", kBad,
               [](Json& j) {
                 j["pre_tokenizer"] = {{"type", "Metaspace"}, {"replacement", "__"}};
               }},
        Change{"without a decoder", kNo, [](Json& j) { j["decoder"] = nullptr; }},
        Change{"type \"WordPiece\"", kNo,
               [](Json& j) {
                 j["decoder"] = {{"type", "WordPiece"}};
               }},
        Change{"ByteFallback after ByteLevel", kNo,
               [](Json& j) {
                 j["decoder"] = sequence("decoders", {j["decoder"], {{"type", "ByteFallback"}}});
               }},
        Change{
            "stop > 0", kNo,
            [](Json& j) {
              const Json strip = {{"type", "Strip"}, {"content", " "}, {"start", 0}, {"stop", 1}};
              j["decoder"] = sequence("decoders", {{{"type", "Fuse"}}, strip});
            }},
        Change{"type \"BertProcessing\"", kNo,
               [](Json& j) {
                 j["post_processor"] = {{"type", "BertProcessing"}};
               }},
        Change{"only one BOS", kNo,
               [](Json& j) {
                 const Json text = {{"Sequence", {{"id", "A"}}}};
                 const Json end = {{"SpecialToken", {{"id", "<|end|>"}}}};
                 j["post_processor"] = {{"type", "TemplateProcessing"}, {"single", {text, end}}};
               }},
        Change{"field \"surprise\"", kNo, [](Json& j) { j["surprise"] = 1; }}));

TEST(HostileJsonText, SyntaxDepthAndSize) {
  const TokenFolder folder;
  std::string deep;
  for (int i = 0; i < 100000; ++i) deep += R"({"type":"Sequence","normalizers":[)";
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("[]"), std::string("null"),
        std::string("{\"model\":{}}garbage"), std::string("\xFF\xFE"), "{\"normalizer\":" + deep}) {
    folder.write("tokenizer.json", std::string_view(text));
    expect_error([&] { return folder.load(); }, Code::kCorrupt, "", "tokenizer.json");
  }
}

TEST(HostileFolder, MissingAndContradictingFiles) {
  const TokenFolder folder;
  expect_error([&] { return folder.load(); }, Code::kNotFound,
               "neither tokenizer.json nor tokenizer.model", "erne-token");
  folder.write_json("tokenizer.json", byte_level_json());
  for (const char* text :
       {R"({"bos_token": 3})", R"({"added_tokens_decoder": []})",
        R"({"added_tokens_decoder": {"-1": {}}})",
        R"({"added_tokens_decoder": {"99999999999": {}}})",
        R"({"added_tokens_decoder": {"1x": {}}})",
        R"({"added_tokens_decoder": {"97": {"content": "b"}}})",
        R"({"additional_special_tokens": 3})", R"({"additional_special_tokens": [3]})",
        R"({"add_bos_token": "yes", "bos_token": "a"})", "[]", "{"}) {
    folder.write("tokenizer_config.json", std::string_view(text));
    expect_error([&] { return folder.load(); }, Code::kCorrupt, "", "tokenizer_config.json");
  }
}

std::string golden_model() { return read_file(kTokenizerGoldens / "tokenizer.model"); }

std::unique_ptr<Tokenizer> load_model(const std::string& bytes) {
  return std::make_unique<BpeTokenizer>(read_sentencepiece(bytes, "tokenizer.model"));
}

TEST(HostileModel, EveryCutAndFlippedByteIsAnErrorOrATokenizer) {
  const std::string good = golden_model();
  for (size_t size = 0; size < good.size(); size += 1 + size / 16) {
    try {
      static_cast<void>(load_model(good.substr(0, size))->encode("a 1 é 🩸"));
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), HasSubstr("tokenizer.model"));
    }
  }
  for (size_t at = 0; at < 4000; at += 23) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x55);
    try {
      static_cast<void>(load_model(bad)->encode("a 1 é 🩸"));
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), HasSubstr("tokenizer.model"));
    }
  }
}

std::string field(int number, const std::string& bytes) {
  return std::string{static_cast<char>(number << 3 | 2), static_cast<char>(bytes.size())} + bytes;
}
std::string number_field(int number, char value) {
  const int tag = number << 3;
  return number < 16 ? std::string{static_cast<char>(tag), value}
                     : std::string{static_cast<char>((tag & 0x7F) | 0x80),
                                   static_cast<char>(tag >> 7), value};
}
std::string piece(const std::string& text, char type) {
  return field(1, field(1, text) + number_field(3, type));
}

TEST(HostileModel, Causes) {
  const std::string trainer = field(2, number_field(3, 2));
  const std::string normalizer = field(3, number_field(3, 0) + number_field(4, 0));
  const std::string unk = piece("<unk>", 2);
  const auto refused = [](const std::string& bytes, Code code, const char* cause) {
    expect_error([&] { return load_model(bytes); }, code, cause, "tokenizer.model");
  };
  EXPECT_EQ(load_model(unk + piece("a", 1) + trainer + normalizer)->encode("aa"),
            (std::vector<int32_t>{1, 1}));
  refused("", kBad, "no pieces");
  refused("not a model at all", kBad, "not a SentencePiece model");
  refused(unk + unk + trainer + normalizer, kBad, "repeats");
  refused(unk + piece("<u2>", 2) + trainer + normalizer, kBad, "both unknown");
  refused(unk + piece("", 1) + trainer + normalizer, kBad, "no text");
  refused(unk + piece("\xFF", 1) + trainer + normalizer, kBad, "not valid UTF-8");
  refused(unk + piece("x", 9) + trainer + normalizer, kBad, "unknown type 9");
  refused(unk + piece("x", 6) + trainer + normalizer, kBad, "byte piece");
  refused(unk + piece("x", 5) + trainer + normalizer, kNo, "UNUSED");
  refused(unk + field(2, number_field(3, 1)) + normalizer, kNo, "model type 1");
  refused(unk + field(2, number_field(3, 2) + number_field(35, 1)) + normalizer, kBad,
          "0 of 256 byte pieces");
  refused(unk + trainer + field(3, number_field(3, 0)), kNo, "remove_extra_whitespaces");
  refused(unk + trainer + field(3, field(2, "map") + number_field(4, 0)), kNo,
          "precompiled_charsmap");
}

TEST(HostileModel, AddedTokensThatContradict) {
  const TokenFolder folder;
  folder.copy_golden("tokenizer.model");
  for (const char* text :
       {R"({"<x>": -1})", R"({"<x>": 3})", R"({"<unk>": 7000})", R"({"<x>": "7000"})",
        R"({"<x>": 7000, "<y>": 7000})", R"({"": 7000})", R"({"<x>": 2147483648})", "[]"}) {
    folder.write("added_tokens.json", std::string_view(text));
    expect_error([&] { return folder.load(); }, Code::kCorrupt, "", "added_tokens.json");
  }
}

}  // namespace
}  // namespace erne
