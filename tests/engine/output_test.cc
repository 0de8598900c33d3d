// Stop strings, hold-back and logprobs must not depend on how a text was cut into tokens or how
// often it was taken.
#include "engine/output.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/rng.h"
#include "base/utf8.h"
#include "engine/table_tokenizer.h"

namespace erne {
namespace {

struct Said {
  std::string text;
  std::optional<std::string> stop;
  std::vector<int32_t> logprob_ids;
};

/// Pushes one token per piece, taking after every `interval`-th; checks what each take may not
/// contain.
Said say(const std::vector<std::string>& pieces, const Request& request, int interval) {
  const TableTokenizer tokenizer(pieces);
  OutputText text(&tokenizer, request);
  Said said;
  const auto take = [&] {
    Output output;
    text.take(output);
    EXPECT_TRUE(utf8::valid(output.text)) << output.text;
    said.text += output.text;
    for (const TokenLogprob& l : output.logprobs) said.logprob_ids.push_back(l.id);
  };
  int32_t id = 0;
  for (; id < static_cast<int32_t>(pieces.size()) && !said.stop; ++id) {
    said.stop = text.push(id, id + 1 >= request.min_new_tokens);
    text.add_logprob({id, 0, {}});
    if ((id + 1) % interval == 0) take();
  }
  if (auto stop = text.finish(true)) said.stop = std::move(stop);
  take();
  for (int32_t i = 0; i < id; ++i) EXPECT_EQ(said.logprob_ids.at(static_cast<size_t>(i)), i);
  EXPECT_EQ(said.logprob_ids.size(), static_cast<size_t>(id));
  return said;
}

std::vector<std::string> cut(const std::string& text, uint64_t seed) {
  std::vector<std::string> pieces;
  for (size_t at = 0, n = 0; at < text.size(); ++n) {
    const size_t length = 1 + philox(seed, 0, n)[0] % 5;
    pieces.push_back(text.substr(at, length));
    at += length;
  }
  return pieces;
}

TEST(OutputText, AnyCutGivesTheSameText) {
  const std::string text = "Grüße, 世界! stop… sto 🙂 stopstop";
  for (const std::vector<std::string>& stops : std::vector<std::vector<std::string>>{
           {}, {"stopst"}, {"🙂"}, {"界!", "世界! s"}, {"nowhere", "opsto"}, {"p…", "top… s"}}) {
    for (const bool keep : {false, true}) {
      Request request;
      request.stop = stops;
      request.no_stop_trim = keep;
      const Said whole = say({text}, request, 1);
      EXPECT_EQ(whole.stop.has_value(), !stops.empty());
      for (uint64_t seed = 0; seed < 60; ++seed) {
        const Said said = say(cut(text, seed), request, 1 + static_cast<int>(seed % 4));
        EXPECT_EQ(said.text, whole.text) << seed;
        EXPECT_EQ(said.stop, whole.stop) << seed;
      }
    }
  }
}

TEST(OutputText, TheMatchThatEndsFirstWins) {
  Request request;
  request.stop = {"cde", "bcd", "d"};
  EXPECT_EQ(say({"abcdef"}, request, 1).text, "a");  // "bcd" and "d" end together: the longer one
  EXPECT_EQ(say({"abcdef"}, request, 1).stop, "bcd");
}

TEST(OutputText, HoldsBackWhatCouldBecomeAStopString) {
  const TableTokenizer tokenizer({"Hello E", "N", "D", "s"});
  Request request;
  request.stop = {"END!"};
  OutputText text(&tokenizer, request);
  Output output;
  text.push(0, true);
  text.take(output);
  EXPECT_EQ(output.text, "Hello ");
  text.push(1, true);
  text.push(2, true);
  text.take(output);
  EXPECT_EQ(output.text, "");
  text.push(3, true);
  text.take(output);
  EXPECT_EQ(output.text, "ENDs");
}

TEST(OutputText, StopStringsCountOnlyFromMinNewTokens) {
  Request request;
  request.stop = {"x"};
  request.min_new_tokens = 3;
  const Said said = say({"ax", "bx", "cx", "dx"}, request, 1);
  EXPECT_EQ(said.text, "axbxc");
  EXPECT_EQ(said.stop, "x");
}

TEST(OutputText, LogprobsRideWithTheirText) {
  const TableTokenizer tokenizer({"\xC3", "\xA4", "E", "N", "x"});
  Request request;
  request.stop = {"END"};
  OutputText text(&tokenizer, request);
  const auto push = [&](int32_t id) {
    text.push(id, true);
    text.add_logprob({id, 0, {}});
    Output output;
    text.take(output);
    return std::pair(output.text, output.logprobs.size());
  };
  using Pair = std::pair<std::string, size_t>;
  EXPECT_EQ(push(0), Pair("", 0));
  EXPECT_EQ(push(1), Pair("ä", 2));
  EXPECT_EQ(push(2), Pair("", 0));
  EXPECT_EQ(push(3), Pair("", 0));
  EXPECT_EQ(push(4), Pair("ENx", 3));
}

TEST(OutputText, BrokenBytesAtTheEndAreToldAsDecodeTellsThem) {
  const TableTokenizer tokenizer({"a", "\xE4\xB8"});
  const std::string text = say({"a", "\xE4\xB8"}, Request{}, 1).text;
  EXPECT_EQ(text, tokenizer.decode(std::vector<int32_t>{0, 1}, true));
  EXPECT_EQ(text.substr(0, 4), "a\uFFFD");
}

const Tokenizer& ernie() {
  static const auto* const tokenizer =
      Tokenizer::load(std::filesystem::path(ERNE_TESTS_DIR) / "goldens/tokenizer").release();
  return *tokenizer;
}

// ERNIE has no token for a newline or for most emoji: they are byte tokens.
TEST(OutputText, StopStringsOfByteTokensMatchWhenTheyAreSampled) {
  for (const std::string stop : {"\n", "\n\n", "\nUser:"}) {
    const std::string before = "Hi 🩸";
    const std::vector<int32_t> ids = ernie().encode_plain(before + stop);
    ASSERT_TRUE(ernie().is_byte(*ernie().find("<0x0A>")));
    for (const bool keep : {false, true}) {
      Request request;
      request.stop = {stop};
      request.no_stop_trim = keep;
      OutputText text(&ernie(), request);
      for (size_t i = 0; i < ids.size(); ++i)
        EXPECT_EQ(text.push(ids[i], true).has_value(), i + 1 == ids.size()) << stop << i;
      EXPECT_EQ(text.finish(true), std::nullopt) << "told already";
      Output output;
      text.take(output);
      EXPECT_EQ(output.text, keep ? before + stop : before);
    }
  }
}

TEST(OutputText, ANewlineIsShownAtOnceAndAnEmojiWhole) {
  const Request request;
  OutputText text(&ernie(), request);
  std::vector<std::string> shown;
  for (const int32_t id : ernie().encode_plain("a\n🩸b")) {
    text.push(id, true);
    Output output;
    text.take(output);
    if (!output.text.empty()) shown.push_back(output.text);
  }
  EXPECT_EQ(shown, (std::vector<std::string>{"a", "\n", "🩸", "b"}));
}

// The end by EOS (a silent token) and by length: what was held back is told, and searched.
TEST(OutputText, TheEndReleasesAndSearchesWhatWasHeld) {
  for (const bool eos : {false, true}) {
    Request request;
    request.stop = {"\nUser:", "x\uFFFD"};
    const auto end_of = [&](const std::vector<int32_t>& ids) {
      OutputText text(&ernie(), request);
      for (const int32_t id : ids) EXPECT_EQ(text.push(id, true), std::nullopt);
      if (eos) text.push_silent(2);
      const std::optional<std::string> stop = text.finish(true);
      Output output;
      text.take(output);
      return std::pair(output.text, stop);
    };
    std::vector<int32_t> ids = ernie().encode_plain("one\nUser");
    EXPECT_EQ(end_of(ids), std::pair(std::string("one\nUser"), std::optional<std::string>()));
    ids = ernie().encode_plain("ax");
    ids.push_back(*ernie().find("<0xF0>"));
    EXPECT_EQ(end_of(ids), std::pair(std::string("a"), std::optional<std::string>("x\uFFFD")));
  }
}

TEST(OutputText, SkippedSpecialTokensReleaseTheirLogprob) {
  const TableTokenizer tokenizer({"<s>", "a"}, {0});
  Request request;
  OutputText text(&tokenizer, request);
  text.push(0, true);
  text.add_logprob({0, 0, {}});
  Output output;
  text.take(output);
  EXPECT_EQ(output.text, "");
  EXPECT_EQ(output.logprobs.size(), 1U);
}

}  // namespace
}  // namespace erne
