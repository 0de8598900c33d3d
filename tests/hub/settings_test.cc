#include "hub/settings.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <map>

#include "base/error.h"
#include "base/file.h"

namespace erne {
namespace {

namespace fs = std::filesystem;

Environment with(std::map<std::string, std::string> values) {
  return [values = std::move(values)](const char* name) -> std::optional<std::string> {
    const auto found = values.find(name);
    if (found == values.end()) return std::nullopt;
    return found->second;
  };
}

TEST(HubSettings, CacheFollowsHuggingFaceOrder) {
  EXPECT_EQ(read_hub_settings(with({{"HOME", "/h"}})).cache, "/h/.cache/huggingface/hub");
  EXPECT_EQ(read_hub_settings(with({{"HOME", "/h"}, {"XDG_CACHE_HOME", "/x"}})).cache,
            "/x/huggingface/hub");
  EXPECT_EQ(read_hub_settings(with({{"HOME", "/h"}, {"HF_HOME", "/f"}})).cache, "/f/hub");
  EXPECT_EQ(read_hub_settings(with({{"HF_HOME", "/f"}, {"HF_HUB_CACHE", "/c"}})).cache, "/c");
  EXPECT_THROW(read_hub_settings(with({})), Error);
}

TEST(HubSettings, EndpointIsEncryptedOrHere) {
  const auto endpoint = [](const std::string& text) {
    return read_hub_settings(with({{"HOME", "/h"}, {"HF_ENDPOINT", text}})).endpoint;
  };
  EXPECT_EQ(endpoint("https://mirror.example/"), "https://mirror.example");
  EXPECT_EQ(endpoint("http://localhost:8080"), "http://localhost:8080");
  EXPECT_EQ(endpoint("http://127.0.0.1:8080"), "http://127.0.0.1:8080");
  EXPECT_EQ(endpoint("http://[::1]:8080"), "http://[::1]:8080");
  for (const char* bad : {"http://mirror.example", "ftp://localhost", "mirror.example",
                          "https://user:pw@mirror.example", "http://localhost.example"}) {
    EXPECT_THROW(endpoint(bad), Error) << bad;
  }
}

TEST(HubSettings, TokenFromVariableOrFile) {
  const fs::path home = fs::path(testing::TempDir()) / "hub_settings";
  fs::create_directories(home);
  write_file(home / "token", "hf_file\n");
  write_file(home / "other", "hf_other");
  HubSettings settings = read_hub_settings(with({{"HF_HOME", home.string()}}));
  EXPECT_EQ(settings.token, "hf_file");
  EXPECT_EQ(settings.token_source, (home / "token").string());
  settings = read_hub_settings(
      with({{"HF_HOME", home.string()}, {"HF_TOKEN_PATH", (home / "other").string()}}));
  EXPECT_EQ(settings.token, "hf_other");
  settings = read_hub_settings(with({{"HF_HOME", home.string()}, {"HF_TOKEN", " hf_variable "}}));
  EXPECT_EQ(settings.token, "hf_variable");
  EXPECT_EQ(settings.token_source, "HF_TOKEN");
  EXPECT_THROW(
      read_hub_settings(with({{"HF_HOME", home.string()}, {"HF_TOKEN", "a\r\nX-Other: b"}})),
      Error);
}

TEST(HubSettings, OfflineWords) {
  const auto offline = [](const char* word) {
    return read_hub_settings(with({{"HOME", "/h"}, {"HF_HUB_OFFLINE", word}})).offline;
  };
  EXPECT_TRUE(offline("1"));
  EXPECT_TRUE(offline("True"));
  EXPECT_TRUE(offline("ON"));
  EXPECT_FALSE(offline("0"));
  EXPECT_FALSE(offline("false"));
}

}  // namespace
}  // namespace erne
