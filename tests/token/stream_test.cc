// Streaming decode: pieces are whole characters and add up to the whole-sequence decode.
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/utf8.h"
#include "token/token_folder.h"

namespace erne {
namespace {

const std::string kBad = "\xEF\xBF\xBD";

std::string stream_whole_characters(const Tokenizer& tokenizer, const std::vector<int32_t>& ids,
                                    bool skip) {
  StreamDecoder decoder(tokenizer, skip);
  std::string out;
  for (const int32_t id : ids) {
    const std::string piece = decoder.push(id);
    EXPECT_TRUE(utf8::valid(piece));
    out += piece;
  }
  const std::string rest = decoder.flush();
  EXPECT_TRUE(utf8::valid(rest));
  return out + rest;
}

/// Whether decode() judges some run of byte tokens otherwise than a stream can: see StreamDecoder.
bool has_broken_run(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, bool skip) {
  if (tokenizer.decode_rules().bytes != DecodeRules::Bytes::kRuns) return false;
  std::string run;
  for (const int32_t id : ids) {
    if (skip && tokenizer.is_special(id)) continue;
    if (tokenizer.is_byte(id)) {
      run += tokenizer.token_bytes(id);
      continue;
    }
    if (!utf8::valid(run)) return true;
    run.clear();
  }
  return !utf8::valid(run);
}

void random_sequences(const Tokenizer& tokenizer, int32_t first, int32_t last, uint32_t seed) {
  std::mt19937 rng(seed);
  int num_equal = 0;
  for (int round = 0; round < 2000; ++round) {
    std::vector<int32_t> ids(rng() % 20);
    for (int32_t& id : ids)
      id = first + static_cast<int32_t>(rng() % static_cast<uint32_t>(last - first));
    for (const bool skip : {false, true}) {
      const std::string streamed = stream_whole_characters(tokenizer, ids, skip);
      if (!has_broken_run(tokenizer, ids, skip)) {
        ASSERT_EQ(streamed, tokenizer.decode(ids, skip));
        ++num_equal;
      }
    }
  }
  EXPECT_GT(num_equal, 200);
}

std::vector<int32_t> bytes_as_ids(std::string_view bytes, int32_t first) {
  std::vector<int32_t> ids;
  for (const char c : bytes) ids.push_back(first + static_cast<unsigned char>(c));
  return ids;
}

TEST(Stream, RandomIdsOfBothFamilies) {
  const auto ernie = Tokenizer::load(kTokenizerGoldens);
  random_sequences(*ernie, 0, ernie->vocab_size(), 1);
  random_sequences(*ernie, 0, 270, 2);  // mostly byte pieces
  const auto byte_level = load_json(byte_level_json());
  random_sequences(*byte_level, 0, byte_level->vocab_size(), 3);
  random_sequences(*byte_level, 128, 268, 4);  // mostly parts of characters
}

TEST(Stream, AByteRunIsReplacedWhole) {
  const auto tokenizer = Tokenizer::load(kTokenizerGoldens);
  const auto decode = [&](std::string_view bytes) {
    return tokenizer->decode(bytes_as_ids(bytes, 13), false);
  };
  EXPECT_EQ(decode("\xF0\x9F\xA9\xB8"), "🩸");
  EXPECT_EQ(decode("\xF0\x9F\xA9"), kBad + kBad + kBad);
  EXPECT_EQ(decode("\n\xFF"), kBad + kBad)
      << "as tokenizers does: valid bytes of an invalid run go too";
  EXPECT_EQ(decode("\n\n"), "\n\n");
}

TEST(Stream, ByteRunsComeCharacterByCharacter) {
  const auto tokenizer = Tokenizer::load(kTokenizerGoldens);
  const auto pieces = [&](std::string_view bytes) {
    StreamDecoder decoder(*tokenizer, false);
    std::vector<std::string> out;
    for (const int32_t id : bytes_as_ids(bytes, 13)) out.push_back(decoder.push(id));
    out.push_back(decoder.flush());
    return out;
  };
  using Pieces = std::vector<std::string>;
  EXPECT_EQ(pieces("\n\n"), (Pieces{"\n", "\n", ""}));
  EXPECT_EQ(pieces("\xF0\x9F\xA9\xB8"), (Pieces{"", "", "", "🩸", ""}));
  EXPECT_EQ(pieces("\n\xF0\x9F"), (Pieces{"\n", "", "", kBad + kBad}));
  EXPECT_EQ(pieces("\xFF\n"), (Pieces{kBad, "\n", ""}));
  EXPECT_EQ(pieces("\xE4\xBD\n"), (Pieces{"", "", kBad + kBad + "\n", ""}));
}

TEST(Stream, ByteLevelReplacesMaximalParts) {
  const auto tokenizer = load_json(byte_level_json());
  const auto decode = [&](std::string_view bytes) {
    return tokenizer->decode(bytes_as_ids(bytes, 0), false);
  };
  EXPECT_EQ(decode("\xF0\x9F\xA9\xB8"), "🩸");
  EXPECT_EQ(decode("a\xF0\x9F\xA9z"), "a" + kBad + "z") << "one for the maximal part";
  EXPECT_EQ(decode("\xF0\x9F\xA9"), kBad);
  EXPECT_EQ(decode("\xED\xA0\x80"), kBad + kBad + kBad) << "a surrogate has no valid part";
  EXPECT_EQ(decode("\xC0\xAF\xFF"), kBad + kBad + kBad);
  EXPECT_EQ(decode("\xE4\xBD\xE4\xBD\xA0"), kBad + "你");
}

TEST(Stream, TextComesAsSoonAsItIsCertain) {
  const auto tokenizer = load_json(byte_level_json());
  StreamDecoder decoder(*tokenizer, false);
  EXPECT_EQ(decoder.push('a'), "a");
  EXPECT_EQ(decoder.push(0xE4), "");
  EXPECT_EQ(decoder.push(0xBD), "");
  EXPECT_EQ(decoder.push(0xA0), "你");
  EXPECT_EQ(decoder.push(0xE4), "");
  EXPECT_EQ(decoder.push('b'), kBad + "b");
  EXPECT_EQ(decoder.push(0xE4), "");
  EXPECT_EQ(decoder.flush(), kBad);
  EXPECT_EQ(decoder.flush(), "");
}

TEST(Stream, SkippedSpecialTokensLeaveTheBytesAroundThemTogether) {
  // tokenizers drops special tokens before it decodes, so a character may straddle one.
  const auto ernie = Tokenizer::load(kTokenizerGoldens);
  const int32_t end = *ernie->find("<|im_end|>");
  const std::vector<int32_t> ids = {13 + 0xE4, 13 + 0xBD, end, 13 + 0xA0};
  EXPECT_EQ(ernie->decode(ids, true), "你");
  EXPECT_EQ(stream_whole_characters(*ernie, ids, true), "你");
  EXPECT_EQ(ernie->decode(ids, false), kBad + kBad + "<|im_end|>" + kBad);
  EXPECT_EQ(stream_whole_characters(*ernie, ids, false), kBad + kBad + "<|im_end|>" + kBad);
}

TEST(Stream, IdsWithoutATokenGiveNothing) {
  Json json = byte_level_json();
  json["added_tokens"].push_back(added_token(1000, "<far>", false));  // leaves a gap
  const auto tokenizer = load_json(json);
  EXPECT_EQ(tokenizer->vocab_size(), 1001);
  EXPECT_EQ(tokenizer->decode(std::vector<int32_t>{'a', 900, 1000, 'b'}, false), "a<far>b");
  EXPECT_EQ(tokenizer->token_bytes(900), "");
  EXPECT_THROW(static_cast<void>(tokenizer->decode(std::vector<int32_t>{1001}, false)), Error);
  EXPECT_THROW(static_cast<void>(tokenizer->decode(std::vector<int32_t>{-1}, false)), Error);
  StreamDecoder decoder(*tokenizer, false);  // a model may have more rows than tokens
  EXPECT_EQ(decoder.push(1001) + decoder.push(-1) + decoder.push('c') + decoder.flush(), "c");
}

}  // namespace
}  // namespace erne
