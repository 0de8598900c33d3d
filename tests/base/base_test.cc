#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/rng.h"
#include "base/thread_pool.h"
#include "base/utf8.h"

namespace erne {
namespace {

namespace fs = std::filesystem;

fs::path scratch(const char* name) {
  const fs::path folder = fs::path(testing::TempDir()) / name;
  fs::remove_all(folder);
  fs::create_directories(folder);
  return folder;
}

TEST(Json, NamesOffsetAndRefusesDepth) {
  EXPECT_EQ(parse_json(R"({"a":[1,2]})", "x")["a"][1], 2);
  try {
    parse_json(R"({"a":})", "request body");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::kInvalidArgument);
    EXPECT_NE(std::string(e.what()).find("request body: invalid JSON at byte 6"), std::string::npos)
        << e.what();
  }
  const std::string deep(1'000'000, '[');
  EXPECT_THROW(parse_json(deep, "x"), Error);
  EXPECT_THROW(parse_json("\"\xff\"", "x"), Error);
}

std::string error_of(const std::function<void()>& parse) {
  try {
    parse();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::kInvalidArgument);
    return e.what();
  }
  return "no error";
}

// {"x":[{},{},...]}
std::string many_objects(int count) {
  std::string text = "{\"x\":[{}";
  for (int i = 1; i < count; ++i) text += ",{}";
  return text + "]}";
}

// {"k0":0,"k1":0,...}
std::string many_keys(int count) {
  std::string text = "{\"k0\":0";
  for (int i = 1; i < count; ++i) text += ",\"k" + std::to_string(i) + "\":0";
  return text + "}";
}

// Quadratic reading would take hours here.
TEST(Json, HostileSizesCostLinearTime) {
  const std::string objects = many_objects(1'000'000);
  EXPECT_EQ(parse_json(objects, "x")["x"].size(), 1'000'000U);
  EXPECT_EQ(parse_ordered_json(objects, "x")["x"].size(), 1'000'000U);
  EXPECT_EQ(parse_json(many_keys(100'000), "x", {.unique_keys = true}).size(), 100'000U);
  for (const int count : {1025, 100'000, 1'000'000}) {
    EXPECT_EQ(error_of([&] { parse_ordered_json(many_keys(count), "request body"); }),
              "request body: JSON object with more than 1024 keys");
  }
}

TEST(Json, KeepsTheOrderOfUpToMaxKeys) {
  const OrderedJson full = parse_ordered_json(many_keys(1024), "x");
  EXPECT_EQ(full.size(), 1024U);
  EXPECT_EQ(std::prev(full.end()).key(), "k1023");
  // Each object has its own count, and the limit is the caller's to choose.
  EXPECT_EQ(parse_ordered_json(R"({"a":{"b":0,"c":0},"d":0})", "x", {.max_keys = 2}).size(), 2U);
  EXPECT_THROW(parse_ordered_json(R"({"a":{"b":0},"c":0,"d":0})", "x", {.max_keys = 2}), Error);
}

TEST(Json, LimitsAreNamed) {
  EXPECT_EQ(error_of([] { parse_json("[[[]]]", "x", {.max_depth = 2}); }),
            "x: JSON nested deeper than 2 levels");
  EXPECT_EQ(parse_json("[[],[{}]]", "x", {.max_depth = 3}).size(), 2U);
  EXPECT_EQ(
      error_of([] { parse_json(R"({"a":{"b":1},"b":2,"a":3})", "x", {.unique_keys = true}); }),
      "x: key \"a\" is given twice");
  EXPECT_EQ(parse_json(R"({"a":1,"a":2})", "x")["a"], 2);
  EXPECT_THAT(error_of([] { parse_json("[1e999]", "x"); }), testing::HasSubstr("number overflow"));
}

TEST(AtomicFile, AppearsOnlyOnCommit) {
  const fs::path folder = scratch("erne_atomic_file");
  {
    AtomicFile file(folder / "a");
    file.write("lost");
  }
  EXPECT_TRUE(fs::is_empty(folder));
  write_file(folder / "a", "kept");
  EXPECT_EQ(read_file(folder / "a"), "kept");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder), {}), 1);
}

TEST(MappedFile, NamesAMissingFile) {
  try {
    MappedFile("/nonexistent/erne");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::kNotFound);
    EXPECT_NE(std::string(e.what()).find("/nonexistent/erne"), std::string::npos);
  }
}

TEST(Hash, KnownDigests) {
  Sha256 hash;
  hash.update("abc", 3);
  EXPECT_EQ(hash.hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_NE(hash128("a", 1), hash128("b", 1));
  EXPECT_NE(hash128("a", 1), hash128("a", 1, hash128("b", 1)));
}

// Known answers of Random123 for philox4x32-10.
TEST(Rng, PhiloxKnownAnswers) {
  EXPECT_EQ(philox(0, 0, 0),
            (std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox(~0ULL, ~0ULL, ~0ULL),
            (std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
}

TEST(Utf8, DecodesAndFindsIncompleteTails) {
  EXPECT_EQ(utf8::decode("\xF0\x9F\x98\x80", 0).codepoint, 0x1F600U);
  EXPECT_FALSE(utf8::valid("\xC0\x80"));
  EXPECT_FALSE(utf8::valid("\xED\xA0\x80"));
  EXPECT_FALSE(utf8::valid("\xF5\x80\x80\x80"));
  EXPECT_EQ(utf8::incomplete_tail("ab"), 0U);
  EXPECT_EQ(utf8::incomplete_tail("a\xF0\x9F\x98"), 3U);
  EXPECT_EQ(utf8::incomplete_tail("a\xE4\xB8"), 2U);
  EXPECT_EQ(utf8::incomplete_tail("a\xE4\xB8\x80"), 0U);
  EXPECT_EQ(utf8::incomplete_tail("\x80\x80"), 0U);
  EXPECT_EQ(utf8::sanitize("a\xF0\x9F z"), "a\uFFFD\uFFFD z");
}

TEST(ThreadPool, CoversEveryIndexOnceOnGrainBorders) {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    for (const int64_t size : {0, 1, 15, 16, 17, 1000}) {
      std::vector<std::atomic<int>> hits(static_cast<size_t>(size));
      std::atomic<bool> aligned{true};
      pool.parallel_for(size, 16, [&](int64_t begin, int64_t end, int thread) {
        if (begin % 16 != 0 || thread >= threads) aligned = false;
        for (int64_t i = begin; i < end; ++i) hits[static_cast<size_t>(i)].fetch_add(1);
      });
      EXPECT_TRUE(aligned);
      for (auto& hit : hits) EXPECT_EQ(hit.load(), 1);
    }
  }
}

}  // namespace
}  // namespace erne
