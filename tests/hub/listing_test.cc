#include "hub/listing.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "hub/content_digest.h"
#include "hub/http.h"

namespace erne {
namespace {

namespace fs = std::filesystem;

const std::string kSha1(40, 'b');
const std::string kSha256(64, 'c');

std::string entry(const std::string& path, const std::string& size = "5",
                  const std::string& oid = kSha1) {
  return R"({"type":"file","path":")" + path + R"(","size":)" + size + R"(,"oid":")" + oid +
         R"("})";
}

TEST(Listing, RepoIds) {
  for (const char* good : {"baidu/ERNIE-4.5-0.3B-PT", "a/b", "org_1/x.y-z"})
    EXPECT_TRUE(is_repo_id(good)) << good;
  for (const char* bad : {"", "a", "a/", "/b", "a/b/c", "../b", "a/..", "a/b..c", "a--b/c",
                          "a/b.git", "a/-b", "a/b.", "a/b c", "a/b\n", "a\\b/c", "~/b"}) {
    EXPECT_FALSE(is_repo_id(bad)) << bad;
  }
  EXPECT_FALSE(is_repo_id("a/" + std::string(97, 'x')));
}

TEST(Listing, Revisions) {
  for (const char* good : {"main", "v1.0", "refs/pr/1"}) EXPECT_TRUE(is_revision(good)) << good;
  for (const char* bad : {"", "..", "a/../b", "/a", "a/", "-x", "a b", "a\n", "a//b"})
    EXPECT_FALSE(is_revision(bad)) << bad;
  EXPECT_TRUE(is_commit(kSha1));
  EXPECT_FALSE(is_commit("main"));
}

TEST(Listing, ReadsFilesAndLeavesFoldersOut) {
  const auto files =
      parse_tree("[" + entry("config.json") + R"(,{"type":"directory","path":"x","oid":""},)" +
                 R"({"type":"file","path":"model.safetensors","size":130,"oid":")" + kSha1 +
                 R"(","lfs":{"oid":")" + kSha256 + R"(","size":7000000000}}])");
  ASSERT_EQ(files.size(), 2U);
  EXPECT_EQ(files[0].path, "config.json");
  EXPECT_EQ(files[0].size, 5U);
  EXPECT_EQ(files[0].digest, kSha1);
  EXPECT_EQ(files[1].size, 7000000000U);
  EXPECT_EQ(files[1].digest, kSha256);
}

TEST(Listing, RefusesWhatWouldLeaveTheFolder) {
  for (const char* path : {"../x", "/etc/passwd", "a/../../x", "a//b", "./a", "", "a\\\\..\\\\b",
                           "a\\u0000b", "a\\nb"}) {
    EXPECT_THROW(parse_tree("[" + entry(path) + "]"), Error) << path;
  }
}

TEST(Listing, RefusesNonsense) {
  for (const std::string& text :
       {std::string("{}"), std::string("[1]"), std::string("["), std::string("[{}]"),
        "[" + entry("a", "-1") + "]", "[" + entry("a", "1e99") + "]",
        "[" + entry("a", "99999999999999999") + "]", "[" + entry("a", "\"5\"") + "]",
        "[" + entry("a", "5", "../../../x") + "]", "[" + entry("a", "5", kSha256) + "]"}) {
    EXPECT_THROW(parse_tree(text), Error) << text;
  }
  EXPECT_THROW(parse_commit(R"({"sha":"main"})"), Error);
  EXPECT_THROW(parse_commit(R"({"sha":7})"), Error);
  EXPECT_EQ(parse_commit(R"({"sha":")" + kSha1 + "\"}"), kSha1);
}

TEST(Listing, IndexNamesPlainFiles) {
  const auto shards = parse_index(
      R"({"weight_map":{"a":"m-2.safetensors","b":"m-1.safetensors","c":"m-2.safetensors"}})");
  EXPECT_EQ(shards, (std::vector<std::string>{"m-1.safetensors", "m-2.safetensors"}));
  for (const char* bad :
       {R"({})", R"({"weight_map":[]})", R"({"weight_map":{}})", R"({"weight_map":{"a":7}})",
        R"({"weight_map":{"a":"../x"}})", R"({"weight_map":{"a":"x/y"}})", R"([])"}) {
    EXPECT_THROW(parse_index(bad), Error) << bad;
  }
}

std::vector<RepoFile> repo(std::initializer_list<const char*> paths) {
  std::vector<RepoFile> files;
  for (const char* path : paths) files.push_back({path, 1, kSha1});
  return files;
}

TEST(Listing, ChoosesWhatATextModelNeeds) {
  const NeededFiles needed = choose_files(
      repo({"README.md", "config.json", "tokenizer.model", "adapter_model.safetensors",
            "model.safetensors", "pytorch_model.bin", "original/model.safetensors", "modeling.py"}),
      "org/name");
  ASSERT_EQ(needed.small.size(), 2U);
  EXPECT_EQ(needed.small[0].path, "config.json");
  EXPECT_EQ(needed.small[1].path, "tokenizer.model");
  ASSERT_EQ(needed.weights.size(), 1U);
  EXPECT_EQ(needed.weights[0].path, "model.safetensors");
  EXPECT_FALSE(needed.has_index);
  EXPECT_TRUE(
      choose_files(repo({"config.json", "model.safetensors.index.json"}), "org/name").has_index);
}

TEST(Listing, SaysWhatARepositoryHasInstead) {
  EXPECT_THROW(choose_files(repo({"model.safetensors"}), "org/name"), Error);
  try {
    choose_files(repo({"config.json", "model-Q4.gguf"}), "org/name");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::kUnsupported);
    EXPECT_NE(std::string(e.what()).find("model-Q4.gguf"), std::string::npos) << e.what();
  }
}

TEST(Listing, NextPage) {
  EXPECT_EQ(next_page(R"(<https://h/x?cursor=1>; rel="next")"), "https://h/x?cursor=1");
  EXPECT_EQ(next_page(R"(<https://h/x>; rel="prev")"), std::nullopt);
  EXPECT_EQ(next_page(""), std::nullopt);
  EXPECT_EQ(next_page("><"), std::nullopt);
}

TEST(ContentDigest, MatchesGitAndSha256) {
  const fs::path file = fs::path(testing::TempDir()) / "digest";
  write_file(file, "hello\n");
  // `printf 'hello\n' | git hash-object --stdin` and `| sha256sum`.
  EXPECT_EQ(content_digest(file, kSha1), "ce013625030ba8dba906f756967f9e9ca394464a");
  EXPECT_EQ(content_digest(file, kSha256),
            "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03");
}

TEST(Http, EscapesAndParsesUrls) {
  EXPECT_EQ(url_escape("refs/pr/1", Slash::kEscape), "refs%2Fpr%2F1");
  EXPECT_EQ(url_escape("a b/ü", Slash::kKeep), "a%20b/%C3%BC");
  const Url url = parse_url("https://host/x", "x");
  EXPECT_EQ(url.port, "443");
  EXPECT_TRUE(url.same_origin(parse_url("https://HOST:443/y", "x")))
      << parse_url("https://HOST:443/y", "x").host;
  EXPECT_FALSE(url.same_origin(parse_url("https://host:444/", "x")));
  EXPECT_FALSE(url.same_origin(parse_url("http://host/", "x")));
}

}  // namespace
}  // namespace erne
