#include "hub/converted.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/file.h"

namespace erne {
namespace {

namespace fs = std::filesystem;

class ConvertedTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::path(testing::TempDir()) / "converted_test";
    fs::remove_all(root_);
    fs::create_directories(root_);
    write_file(root_ / "tiny.gguf", "one");
  }

  fs::path convert() {
    return converted_folder(root_ / "tiny.gguf", root_ / "cache",
                            [this](const fs::path& gguf, const fs::path& folder) {
                              ++conversions_;
                              ASSERT_FALSE(fs::exists(folder));
                              fs::create_directories(folder);
                              write_file(folder / "config.json", read_file(gguf));
                            });
  }

  fs::path root_;
  std::atomic<int> conversions_{0};
};

TEST_F(ConvertedTest, OnceWhileTheFileStays) {
  const fs::path folder = convert();
  EXPECT_EQ(read_file(folder / "config.json"), "one");
  EXPECT_EQ(convert(), folder);
  EXPECT_EQ(conversions_, 1);
  fs::create_symlink(root_ / "tiny.gguf", root_ / "link.gguf");
  write_file(root_ / "tiny.gguf", "two!");
  const fs::path other = convert();
  EXPECT_NE(other, folder);
  EXPECT_EQ(read_file(other / "config.json"), "two!");
  fs::last_write_time(root_ / "tiny.gguf",
                      fs::last_write_time(root_ / "tiny.gguf") + std::chrono::seconds(5));
  EXPECT_NE(convert(), other);
}

TEST_F(ConvertedTest, AFailureLeavesNothingToBeTakenForAModel) {
  const auto broken = [](const fs::path&, const fs::path& folder) {
    fs::create_directories(folder);
    write_file(folder / "config.json", "half");
    fail(Code::kCorrupt, "tensor 7 is short");
  };
  EXPECT_THROW(converted_folder(root_ / "tiny.gguf", root_ / "cache", broken), Error);
  EXPECT_EQ(read_file(convert() / "config.json"), "one");
}

TEST_F(ConvertedTest, TwoAtOnceConvertOnce) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back([this] { convert(); });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(conversions_, 1);
}

TEST_F(ConvertedTest, AnUnwritableCacheIsNamed) {
  write_file(root_ / "file", "");
  try {
    converted_folder(root_ / "tiny.gguf", root_ / "file", [](const fs::path&, const fs::path&) {});
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::kIo);
    EXPECT_NE(std::string(e.what()).find("XDG_CACHE_HOME"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace erne
