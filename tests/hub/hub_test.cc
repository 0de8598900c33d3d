#include "hub/hub.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <thread>

#include "base/error.h"
#include "base/file.h"
#include "hub/download.h"
#include "hub/hub_server.h"
#include "hub/listing.h"
#include "hub/repo_cache.h"

namespace erne {
namespace {

namespace fs = std::filesystem;
using Kind = HubServer::Kind;

std::string noise(size_t size, uint32_t seed) {
  std::string text(size, '\0');
  for (char& c : text) {
    seed = seed * 1664525 + 1013904223;
    c = static_cast<char>(seed >> 24);
  }
  return text;
}

class HubTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::path(testing::TempDir()) /
            testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(root_);
    fs::create_directories(root_);
    settings_.endpoint = server_.endpoint();
    settings_.cache = root_ / "hub";
    settings_.backoff_ms = 1;
    settings_.stall_timeout_s = 1;
    settings_.attempts = 3;
    server_.add("config.json", R"({"architectures":["Ernie4_5ForCausalLM"]})", Kind::kSmall);
    server_.add("tokenizer.json", "{}", Kind::kSmall);
    server_.add("README.md", "not needed", Kind::kSmall);
    server_.add("adapter_model.safetensors", noise(100, 5), Kind::kLarge);
  }

  void add_single() { server_.add("model.safetensors", weights_, Kind::kLarge); }

  void add_shards() {
    server_.add(
        "model.safetensors.index.json",
        R"({"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors","c":"m-3.safetensors"}})",
        Kind::kSmall);
    for (uint32_t i = 1; i <= 3; ++i) {
      server_.add(fmt::format("m-{}.safetensors", i), noise(60'000 + i, i), Kind::kLarge);
    }
  }

  fs::path download() {
    return download_model({HubServer::kRepo, "main", "Looked in: nowhere", false}, settings_);
  }

  Error download_error() {
    try {
      download();
    } catch (const Error& e) {
      return e;
    }
    ADD_FAILURE() << "no error";
    return Error(Code::kInternal, "");
  }

  RepoCache cache() const { return {settings_.cache, HubServer::kRepo}; }

  void expect_whole() {
    const fs::path folder = download();
    EXPECT_EQ(folder, cache().snapshot(HubServer::kCommit));
    EXPECT_EQ(read_file(folder / "model.safetensors"), weights_);
    EXPECT_EQ(missing_file(folder), std::nullopt);
    for (const auto& blob : fs::directory_iterator(cache().folder() / "blobs")) {
      EXPECT_NE(blob.path().extension(), ".incomplete") << blob.path();
    }
  }

  const std::string weights_ = noise(200'001, 9);
  HubServer server_;
  HubSettings settings_;
  fs::path root_;
};

void expect_says(const Error& error, Code code, std::initializer_list<std::string> parts) {
  EXPECT_EQ(error.code(), code) << error.what();
  for (const std::string& part : parts)
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
}

TEST_F(HubTest, WritesTheStandardCacheLayout) {
  add_single();
  expect_whole();
  const fs::path snapshot = cache().snapshot(HubServer::kCommit);
  EXPECT_EQ(read_file(cache().folder() / "refs/main"), HubServer::kCommit);
  EXPECT_EQ(cache().folder().filename(), "models--org--tiny");
  ASSERT_TRUE(fs::is_symlink(snapshot / "model.safetensors"));
  const fs::path target = fs::read_symlink(snapshot / "model.safetensors");
  EXPECT_EQ(target.parent_path(), "../../blobs");
  EXPECT_EQ(target.filename().string().size(), 64U);
  EXPECT_EQ(fs::read_symlink(snapshot / "config.json").filename().string().size(), 40U);
  EXPECT_FALSE(fs::exists(snapshot / "README.md"));
  EXPECT_FALSE(fs::exists(snapshot / "adapter_model.safetensors"));
}

TEST_F(HubTest, FetchesTheShardsOfAnIndex) {
  add_shards();
  const fs::path folder = download();
  EXPECT_EQ(missing_file(folder), std::nullopt);
  EXPECT_EQ(read_file(folder / "m-2.safetensors"), noise(60'002, 2));
}

TEST_F(HubTest, ReadsEveryPageOfTheList) {
  add_single();
  server_.files_per_page = 2;
  expect_whole();
}

TEST_F(HubTest, FetchesNothingTwice) {
  add_single();
  download();
  const size_t before = server_.count("model.safetensors");
  download();
  EXPECT_EQ(server_.count("model.safetensors"), before);
}

TEST_F(HubTest, ContinuesAfterInterruptions) {
  add_single();
  server_.misbehave("model.safetensors",
                    {Fault::kDropHalf, Fault::kDropHalf, Fault::kBusy, Fault::kDropHalf});
  expect_whole();
  std::vector<std::string> ranges;
  for (const SeenRequest& request : server_.seen()) {
    if (request.on_storage_port && request.headers.contains("range"))
      ranges.push_back(request.headers.at("range"));
  }
  EXPECT_EQ(ranges, (std::vector<std::string>{"bytes=100000-", "bytes=150000-", "bytes=150000-",
                                              "bytes=175000-"}));
}

TEST_F(HubTest, ContinuesWhatAnEarlierProcessLeft) {
  add_single();
  settings_.attempts = 1;
  server_.misbehave("model.safetensors", {Fault::kDropHalf});
  expect_says(download_error(), Code::kIo, {"model.safetensors", "100000 of 200001", "kept"});
  EXPECT_FALSE(fs::exists(cache().folder() / "refs/main"));
  expect_whole();
  EXPECT_EQ(server_.seen().back().headers.at("range"), "bytes=100000-");
}

TEST_F(HubTest, SurvivesAStall) {
  add_single();
  server_.misbehave("model.safetensors", {Fault::kStall});
  expect_whole();
}

TEST_F(HubTest, AsksAgainWhenAStorageAddressHasRunOut) {
  add_single();
  server_.misbehave("model.safetensors", {Fault::kDropHalf, Fault::kExpired});
  expect_whole();
}

TEST_F(HubTest, RefetchesWrongBytes) {
  add_single();
  server_.misbehave("model.safetensors",
                    {Fault::kWrongBytes, Fault::kDropHalf, Fault::kWrongBytes});
  server_.misbehave("config.json", {Fault::kWrongBytes});
  expect_whole();
}

TEST_F(HubTest, GivesUpOnBytesThatStayWrong) {
  add_single();
  server_.misbehave("model.safetensors", std::deque<Fault>(10, Fault::kWrongBytes));
  expect_says(download_error(), Code::kCorrupt, {"model.safetensors", "digest"});
  EXPECT_FALSE(fs::exists(cache().snapshot(HubServer::kCommit) / "model.safetensors"));
}

TEST_F(HubTest, DistrustsWhatAnEarlierProcessLeft) {
  add_single();
  download();
  const fs::path blob = fs::canonical(cache().snapshot(HubServer::kCommit) / "model.safetensors");
  fs::remove(blob);
  write_file(blob.string() + ".incomplete", noise(5000, 77));
  expect_whole();
  fs::remove(blob);
  write_file(blob.string() + ".incomplete", noise(500'000, 77));
  expect_whole();
}

TEST_F(HubTest, CopesWithServersThatIgnoreOrConfuseRanges) {
  add_single();
  server_.misbehave("model.safetensors", {Fault::kDropHalf, Fault::kIgnoreRange});
  expect_whole();
  for (const Fault fault : {Fault::kWrongRange, Fault::kNoSuchRange, Fault::kTooLong}) {
    fs::remove_all(settings_.cache);
    server_.misbehave("model.safetensors", {Fault::kDropHalf, fault});
    expect_whole();
  }
}

TEST_F(HubTest, AnEndlessAnswerEnds) {
  add_single();
  server_.misbehave("model.safetensors", std::deque<Fault>(50, Fault::kTooLong));
  expect_says(download_error(), Code::kIo, {"model.safetensors"});
}

TEST_F(HubTest, TokenStaysWithTheEndpoint) {
  add_shards();
  server_.required_token = settings_.token = "hf_secret";
  download();
  size_t with_token = 0;
  for (const SeenRequest& request : server_.seen()) {
    if (request.on_storage_port) {
      EXPECT_FALSE(request.headers.contains("authorization")) << request.path;
    } else {
      with_token += request.headers.contains("authorization") ? 1 : 0;
    }
  }
  EXPECT_GE(with_token, 6U);
}

TEST_F(HubTest, RedirectsStayEncryptedAndEnd) {
  server_.add("model.safetensors", weights_, Kind::kSmall);
  server_.misbehave("model.safetensors", {Fault::kPlainHttpElsewhere});
  expect_says(download_error(), Code::kIo, {"http://192.0.2.1", "not https"});
  server_.misbehave("model.safetensors", std::deque<Fault>(100, Fault::kRedirectLoop));
  expect_says(download_error(), Code::kIo, {"more than 5 redirects"});
}

TEST_F(HubTest, RefusalsSayTheFix) {
  add_single();
  server_.refuse_with = 401;
  expect_says(download_error(), Code::kNotFound,
              {"401", "HF_TOKEN", "org/tiny", "Looked in: nowhere"});
  settings_.token = "x";
  settings_.token_source = "HF_TOKEN";
  expect_says(download_error(), Code::kNotFound, {"the token in HF_TOKEN is wrong"});
  server_.refuse_with = 403;
  server_.headers_of_refusal = {{"X-Error-Code", "GatedRepo"}};
  expect_says(download_error(), Code::kNotFound, {"403", "accept its terms at", "/org/tiny"});
  server_.refuse_with = 404;
  server_.headers_of_refusal = {{"X-Error-Code", "RevisionNotFound"}};
  expect_says(download_error(), Code::kNotFound, {"no revision 'main'"});
  server_.headers_of_refusal = {{"X-Error-Code", "RepoNotFound"}};
  expect_says(download_error(), Code::kNotFound, {"no model org/tiny", "Looked in: nowhere"});
  server_.refuse_with = 503;
  expect_says(download_error(), Code::kIo, {"503"});
}

TEST_F(HubTest, AnUnreachableHubIsNamed) {
  settings_.endpoint = "http://127.0.0.1:1";
  expect_says(download_error(), Code::kIo,
              {"cannot reach http://127.0.0.1:1", "Looked in: nowhere"});
}

TEST_F(HubTest, HostileListsDownloadNothing) {
  const std::string id(40, 'a');
  server_.listing = R"([{"type":"file","path":"../../evil","size":1,"oid":")" + id + R"("}])";
  expect_says(download_error(), Code::kCorrupt, {"../../evil"});
  EXPECT_FALSE(fs::exists(settings_.cache));
}

TEST_F(HubTest, AnIndexThatNamesAbsentShards) {
  server_.add("model.safetensors.index.json", R"({"weight_map":{"a":"m-9.safetensors"}})",
              Kind::kSmall);
  expect_says(download_error(), Code::kCorrupt, {"m-9.safetensors"});
}

TEST_F(HubTest, AFullDiskIsForeseen) {
  const std::string id(40, 'a');
  const std::string large(64, 'b');
  server_.listing = R"([{"type":"file","path":"config.json","size":1000000000000,"oid":")" + id +
                    R"("},{"type":"file","path":"model.safetensors","size":1,"oid":")" + id +
                    R"(","lfs":{"oid":")" + large + R"(","size":9000000000000}}])";
  fs::create_directories(settings_.cache);
  if (fs::space(settings_.cache).available > 900'000'000'000)
    GTEST_SKIP() << "a disk of over 900 GB";
  expect_says(download_error(), Code::kIo, {"needs 931.3 GiB more", "HF_HUB_CACHE"});
}

TEST_F(HubTest, ADiskThatFillsUpKeepsWhatArrived) {
  add_single();
  const fs::path full = "/dev/full";
  if (!fs::exists(full)) GTEST_SKIP() << "no /dev/full";
  download();
  const fs::path blob = fs::canonical(cache().snapshot(HubServer::kCommit) / "model.safetensors");
  fs::remove(blob);
  fs::create_symlink(full, blob.string() + ".incomplete");
  expect_says(download_error(), Code::kIo, {"No space left", "HF_HUB_CACHE"});
}

TEST_F(HubTest, TwoAtOnceFetchOnce) {
  add_shards();
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([this] { EXPECT_EQ(missing_file(download()), std::nullopt); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(server_.count("m-1.safetensors?signature=x"), 1U);
}

TEST_F(HubTest, ThreadsLinkTheSameName) {
  add_single();
  download();
  const fs::path name = cache().snapshot(HubServer::kCommit) / "model.safetensors";
  const std::string digest = fs::canonical(name).filename().string();
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 50; ++round) {
        EXPECT_NO_THROW(cache().link(HubServer::kCommit, "shared/name", digest));
        std::error_code gone;
        fs::remove(name.parent_path() / "shared" / "name", gone);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& entry : fs::directory_iterator(name.parent_path() / "shared")) {
    EXPECT_EQ(entry.path().filename(), "name");
  }
}

TEST_F(HubTest, WaitsForAnotherProcess) {
  add_single();
  download();
  const fs::path blob = fs::canonical(cache().snapshot(HubServer::kCommit) / "model.safetensors");
  fs::remove(blob);
  const fs::path lock = cache().lock(blob.filename().string());
  const int fd = ::open(lock.c_str(), O_RDWR);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(::flock(fd, LOCK_EX), 0);
  const size_t before = server_.count("model.safetensors");
  std::thread other([&] { download(); });
  write_file(blob, weights_);
  ::close(fd);
  other.join();
  EXPECT_EQ(server_.count("model.safetensors"), before);
}

// resolve_model reads the environment; each test sets what it needs.
class ResolveTest : public HubTest {
 protected:
  void SetUp() override {
    HubTest::SetUp();
    ::setenv("HF_ENDPOINT", server_.endpoint().c_str(), 1);
    ::setenv("HF_HUB_CACHE", settings_.cache.c_str(), 1);
    ::setenv("HF_HOME", root_.c_str(), 1);
    ::setenv("XDG_CACHE_HOME", (root_ / "xdg").c_str(), 1);
    ::unsetenv("HF_HUB_OFFLINE");
    ::unsetenv("HF_TOKEN");
  }
  void TearDown() override {
    for (const char* name :
         {"HF_ENDPOINT", "HF_HUB_CACHE", "HF_HOME", "HF_HUB_OFFLINE", "XDG_CACHE_HOME"})
      ::unsetenv(name);
  }
  static Error error_of(const std::string& model, const HubOptions& options = {}) {
    try {
      resolve_model(model, options);
    } catch (const Error& e) {
      return e;
    }
    ADD_FAILURE() << "no error for " << model;
    return Error(Code::kInternal, "");
  }
};

TEST_F(ResolveTest, AFolderStaysWhatItIs) { EXPECT_EQ(resolve_model(root_.string(), {}), root_); }

TEST_F(ResolveTest, WhatIsNoModel) {
  write_file(root_ / "notes.txt", "x");
  expect_says(error_of(""), Code::kInvalidArgument, {"--model-path is empty"});
  expect_says(error_of((root_ / "notes.txt").string()), Code::kInvalidArgument, {"notes.txt"});
  expect_says(error_of((root_ / "absent").string()), Code::kNotFound,
              {"absent", "baidu/ERNIE-4.5-0.3B-PT"});
  expect_says(error_of("./models/absent"), Code::kNotFound, {"./models/absent"});
  expect_says(error_of("models/absent.gguf"), Code::kNotFound, {"absent.gguf"});
  HubOptions options;
  options.revision = "../x";
  expect_says(error_of("org/tiny", options), Code::kInvalidArgument, {"--revision '../x'"});
}

TEST_F(ResolveTest, AGgufFileGoesToTheConverter) {
  write_file(root_ / "broken.gguf", "GGUF");
  expect_says(error_of((root_ / "broken.gguf").string()), Code::kCorrupt, {"broken.gguf"});
  for (const auto& left : fs::directory_iterator(root_ / "xdg/erne/converted")) {
    EXPECT_EQ(left.path().extension(), ".lock") << left.path();
  }
}

TEST_F(ResolveTest, DownloadsOnceThenNeedsNoNetwork) {
  add_single();
  const fs::path folder = resolve_model("org/tiny", {});
  ::setenv("HF_ENDPOINT", "http://127.0.0.1:1", 1);
  EXPECT_EQ(resolve_model("org/tiny", {}), folder);
  HubOptions options;
  options.revision = HubServer::kCommit;
  EXPECT_EQ(resolve_model("org/tiny", options), folder);
}

TEST_F(ResolveTest, OtherRevisionsAndFolders) {
  add_single();
  HubOptions options;
  options.revision = "refs/pr/1";
  options.download_dir = root_ / "elsewhere";
  const fs::path folder = resolve_model("org/tiny", options);
  EXPECT_EQ(folder.string().find((root_ / "elsewhere").string()), 0U);
  EXPECT_EQ(read_file(root_ / "elsewhere/models--org--tiny/refs/refs/pr/1"), HubServer::kCommit);
  options.revision = "absent";
  expect_says(error_of("org/tiny", options), Code::kNotFound, {"no revision 'absent'"});
}

TEST_F(ResolveTest, OfflineNamesWhereItLooked) {
  add_single();
  ::setenv("HF_HUB_OFFLINE", "1", 1);
  expect_says(error_of("org/tiny"), Code::kNotFound,
              {"HF_HUB_OFFLINE", "models--org--tiny", "./org/tiny"});
  EXPECT_TRUE(server_.seen().empty());
  ::unsetenv("HF_HUB_OFFLINE");
  const fs::path folder = resolve_model("org/tiny", {});
  ::setenv("HF_HUB_OFFLINE", "1", 1);
  EXPECT_EQ(resolve_model("org/tiny", {}), folder);
  fs::remove(folder / "model.safetensors");
  expect_says(error_of("org/tiny"), Code::kNotFound, {"which lacks model.safetensors"});
}

}  // namespace
}  // namespace erne
