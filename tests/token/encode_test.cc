// Encoding against independent statements of the same thing: a naive BPE, the regular expression,
// libsentencepiece.
#include <gtest/gtest.h>
#include <sentencepiece_processor.h>

#include <algorithm>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/utf8.h"
#include "token/char_class.h"
#include "token/pre_tokenizer.h"
#include "token/token_folder.h"

namespace erne {
namespace {

std::string random_text(std::mt19937& rng, size_t characters) {
  static const std::vector<std::string> kParts = {
      " ",      " ",      "  ",     "\n",     "\t",     "a",       "b",
      "the ",   "th",     "'s",     "'ll",    "'",      "1",       "23",
      "½",      "é",      "你",     "好",     "世",     "🩸",      "🇩🇪",
      "|>",     "<|",     ".",      "_",      "-",      "ﬃ",       "\u3000",
      "\u00a0", "\u0085", "\u2028", "\u180e", "\u200d", "e\u0301", std::string(1, '\0'),
      "\x7f",   "▁",      "Ⅷ",      "ру́с",    "عربي",   "𝒳"};
  std::string out;
  for (size_t i = 0; i < characters; ++i) {
    if (rng() % 12 == 0) {
      auto c = static_cast<uint32_t>(rng() % 0x30000);
      if (c >= 0xD800 && c < 0xE000) c = 'x';
      utf8::append(out, c);
    } else {
      out += kParts[rng() % kParts.size()];
    }
  }
  return out;
}

// BPE as its definition reads: the best pair of the whole word, again and again.
std::vector<int32_t> naive_bpe(const Json& json, const std::string& text) {
  std::vector<std::string> symbols;
  for (const char c : text) symbols.push_back(to_byte_alphabet(std::string(1, c)));
  const Json& merges = json.at("model").at("merges");
  while (true) {
    size_t best_rank = merges.size();
    size_t best_at = 0;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      for (size_t rank = 0; rank < best_rank; ++rank) {
        if (merges[rank][0] == symbols[i] && merges[rank][1] == symbols[i + 1]) {
          best_rank = rank;
          best_at = i;
        }
      }
    }
    if (best_rank == merges.size()) break;
    symbols[best_at] += symbols[best_at + 1];
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best_at) + 1);
  }
  std::vector<int32_t> ids;
  for (const std::string& symbol : symbols) ids.push_back(json.at("model").at("vocab").at(symbol));
  return ids;
}

TEST(Encode, EqualsNaiveBpeOnShortAndLongWords) {
  Json json = byte_level_json();
  json["pre_tokenizer"]["use_regex"] = false;  // words of any length, so that both merge loops run
  for (const auto& [left, right] :
       {std::pair{"a", "a"}, {"aa", "aa"}, {"b", "a"}, {"aa", "ba"}, {"aaaa", "b"}}) {
    json["model"]["vocab"][std::string(left) + right] = json["model"]["vocab"].size() + 100;
    json["model"]["merges"].push_back({left, right});
  }
  const auto tokenizer = load_json(json);
  std::mt19937 rng(5);
  for (int round = 0; round < 400; ++round) {
    std::string text;
    const size_t size = rng() % 90;
    for (size_t i = 0; i < size; ++i) text += "aaabthe \xF0\x9F"[rng() % 9];
    text = utf8::sanitize(text);
    ASSERT_EQ(tokenizer->encode(text), naive_bpe(json, text)) << text;
  }
}

TEST(Encode, SentencePieceAgrees) {
  sentencepiece::SentencePieceProcessor reference;
  ASSERT_TRUE(reference.Load((kTokenizerGoldens / "tokenizer.model").string()).ok());
  const TokenFolder folder;
  folder.copy_golden("tokenizer.model");
  const auto tokenizer = folder.load();
  std::mt19937 rng(6);
  for (int round = 0; round < 2000; ++round) {
    const std::string text = random_text(rng, rng() % 60);
    const std::vector<int> want = reference.EncodeAsIds(text);
    ASSERT_EQ(tokenizer->encode(text), std::vector<int32_t>(want.begin(), want.end())) << text;
  }
}

TEST(Encode, Gpt2SplitEqualsItsPattern) {
  const Regex regex(kGpt2Pattern);
  std::mt19937 rng(7);
  for (int round = 0; round < 3000; ++round) {
    std::string text = random_text(rng, 1 + rng() % 40);
    // PCRE2's \s has U+180E, which Unicode took out of White_Space in 2013.
    for (size_t at; (at = text.find("\u180e")) != std::string::npos;) text.replace(at, 3, "\u3000");
    Regex::Matcher matcher(regex, text);
    for (size_t at = 0; at < text.size();) {
      const auto match = matcher.find(at);
      ASSERT_TRUE(match.has_value());
      ASSERT_EQ(match->begin, at) << text;
      ASSERT_EQ(match->end - at, gpt2_match(std::string_view(text).substr(at)))
          << text << " at " << at;
      at = match->end;
    }
  }
}

TEST(Encode, RoundTripOfAnyText) {
  const auto ernie = Tokenizer::load(kTokenizerGoldens);
  const auto byte_level = load_json(byte_level_json());
  std::mt19937 rng(8);
  for (int round = 0; round < 1000; ++round) {
    std::string text = random_text(rng, rng() % 80);
    EXPECT_EQ(byte_level->decode(byte_level->encode_plain(text), true), text);
    for (size_t at; (at = text.find("▁")) != std::string::npos;) text.replace(at, 3, " ");
    EXPECT_EQ(ernie->decode(ernie->encode_plain(text), true), text);
  }
}

TEST(Encode, InvalidUtf8BecomesReplacementCharacters) {
  for (const auto& tokenizer : {Tokenizer::load(kTokenizerGoldens), load_json(byte_level_json())}) {
    const std::string text("a\xFF\xE4\xBD b\0\xED\xA0\x80\xF0\x9F", 12);
    EXPECT_EQ(tokenizer->encode(text), tokenizer->encode(utf8::sanitize(text)));
    std::string all;
    for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
    EXPECT_EQ(tokenizer->decode(tokenizer->encode(all), false), utf8::sanitize(all));
    EXPECT_TRUE(tokenizer->encode("").empty());
    EXPECT_TRUE(tokenizer->encode_plain("").empty());
  }
}

TEST(Encode, LongTextsAreNotQuadratic) {
  // Quadratic work on these sizes takes minutes; the test's own time limit is the assertion.
  const auto ernie = Tokenizer::load(kTokenizerGoldens);
  const auto byte_level = load_json(byte_level_json());
  const std::string word(size_t{1} << 20, 'a');
  EXPECT_EQ(byte_level->decode(byte_level->encode(word), false), word);
  const size_t size = size_t{1} << 18;
  std::string letters;
  std::mt19937 rng(9);
  while (letters.size() < size) letters += static_cast<char>('a' + rng() % 3);
  for (const std::string& text :
       {std::string(size, 'a'), std::string(size, ' '), std::string(size, '7'), letters,
        std::string(size, '<'), std::string(size, '\xE4')}) {
    const std::string want = utf8::sanitize(text);
    EXPECT_EQ(ernie->decode(ernie->encode(text), false), want);
    EXPECT_EQ(byte_level->decode(byte_level->encode(text), false), want);
  }
}

TEST(Encode, LongWhiteSpaceAgainstALlamaPattern) {
  Json json = byte_level_json();
  const char* pattern =
      R"([^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  const Json split = {{"type", "Split"},
                      {"pattern", {{"Regex", pattern}}},
                      {"behavior", "Isolated"},
                      {"invert", false}};
  json["pre_tokenizer"]["use_regex"] = false;
  json["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {split, json["pre_tokenizer"]}}};
  const auto tokenizer = load_json(json);
  std::string text;
  while (text.size() < 3'000'000) text += " \t";  // over the fixed part of the match limit
  text += "x";
  EXPECT_EQ(tokenizer->decode(tokenizer->encode(text), false), text);
}

TEST(Encode, PathologicalPatternIsAnErrorNotAHang) {
  Json json = byte_level_json();
  Json split = {{"type", "Split"},
                {"pattern", {{"Regex", "(a+)+$|(a|aa)+c"}}},
                {"behavior", "Isolated"},
                {"invert", false}};
  json["pre_tokenizer"]["use_regex"] = false;
  json["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {split, json["pre_tokenizer"]}}};
  const auto tokenizer = load_json(json);
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("aaa"), false), "aaa");
  try {
    static_cast<void>(tokenizer->encode(std::string(200, 'a') + "b"));
    ADD_FAILURE() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::kInvalidArgument);
    EXPECT_NE(std::string(e.what()).find("too hard"), std::string::npos) << e.what();
  }
}

TEST(Encode, ManyThreadsOneTokenizer) {
  const auto tokenizer = Tokenizer::load(kTokenizerGoldens);
  std::mt19937 rng(10);
  const std::string text = random_text(rng, 2000);
  const auto want = tokenizer->encode(text);
  const std::string decoded = tokenizer->decode(want, false);
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 20; ++i) {
        if (tokenizer->encode(text) != want || tokenizer->decode(want, false) != decoded)
          ++wrong[t];
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4, 0));
}

}  // namespace
}  // namespace erne
