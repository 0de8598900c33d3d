// A temporary model folder, and tokenizer.json texts to put into it.
#pragma once

#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>

#include "base/file.h"
#include "base/json.h"
#include "token/byte_alphabet.h"
#include "token/tokenizer.h"

namespace erne {

inline const std::filesystem::path kTokenizerGoldens =
    std::filesystem::path(ERNE_TESTS_DIR) / "goldens" / "tokenizer";

/// Removed with all it holds at the end of its scope.
class TokenFolder {
 public:
  TokenFolder() {
    static std::atomic<int> next{0};
    path_ = std::filesystem::temp_directory_path() /
            ("erne-token-" + std::to_string(::getpid()) + "-" + std::to_string(next++));
    std::filesystem::create_directories(path_);
  }
  TokenFolder(const TokenFolder&) = delete;
  TokenFolder& operator=(const TokenFolder&) = delete;
  ~TokenFolder() { std::filesystem::remove_all(path_); }

  const std::filesystem::path& path() const { return path_; }
  void write(const char* name, std::string_view text) const {
    std::ofstream(path_ / name, std::ios::binary) << text;
  }
  void write_json(const char* name, const Json& json) const { write(name, dump_json(json)); }
  void copy_golden(const char* name) const {
    std::filesystem::copy_file(kTokenizerGoldens / name, path_ / name);
  }
  std::unique_ptr<Tokenizer> load() const { return Tokenizer::load(path_); }

 private:
  std::filesystem::path path_;
};

/// The look-alike ERNIE tokenizer from its SentencePiece file.
inline std::unique_ptr<Tokenizer> load_golden_model() {
  const TokenFolder folder;
  for (const char* name : {"tokenizer.model", "added_tokens.json", "tokenizer_config.json"})
    folder.copy_golden(name);
  return folder.load();
}

inline std::unique_ptr<Tokenizer> load_json(const Json& json) {
  const TokenFolder folder;
  folder.write_json("tokenizer.json", json);
  return folder.load();
}

inline Json added_token(int id, std::string_view content, bool special) {
  return {{"id", id},        {"content", content}, {"special", special},  {"normalized", false},
          {"lstrip", false}, {"rstrip", false},    {"single_word", false}};
}

/// A small byte-level tokenizer: all bytes, a few merges, two special tokens.
inline Json byte_level_json() {
  Json vocab = Json::object();
  for (int byte = 0; byte < 256; ++byte)
    vocab[to_byte_alphabet(std::string(1, static_cast<char>(byte)))] = byte;
  Json merges = Json::array();
  int id = 256;
  for (const auto& [left, right] : {std::pair{"t", "h"},
                                    {"th", "e"},
                                    {" ", "the"},
                                    {"a", "b"},
                                    {"ab", "ab"},
                                    {"\xF0", "\x9F"},
                                    {"\xE4", "\xBD"},
                                    {"\xBD", "\xA0"},
                                    {"<", "|"},
                                    {"|", ">"}}) {
    const std::string l = to_byte_alphabet(left);
    const std::string r = to_byte_alphabet(right);
    vocab[l + r] = id++;
    merges.push_back({l, r});
  }
  const Json byte_level = {{"type", "ByteLevel"},
                           {"add_prefix_space", false},
                           {"trim_offsets", true},
                           {"use_regex", true}};
  return {
      {"version", "1.0"},
      {"added_tokens", {added_token(id, "<|end|>", true), added_token(id + 1, "<|start|>", true)}},
      {"normalizer", nullptr},
      {"pre_tokenizer", byte_level},
      {"post_processor", nullptr},
      {"decoder", byte_level},
      {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}}}};
}

}  // namespace erne
