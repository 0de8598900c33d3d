#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
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
