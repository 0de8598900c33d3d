// A tokenizer whose tokens are given as a list of byte strings.
#pragma once

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "token/tokenizer.h"

namespace erne {

class TableTokenizer final : public Tokenizer {
 public:
  explicit TableTokenizer(std::vector<std::string> tokens, std::set<int32_t> special = {})
      : tokens_(std::move(tokens)), special_(std::move(special)) {}

  std::vector<int32_t> encode(std::string_view, std::span<const ByteRange>) const override {
    return {};
  }
  std::string_view token_bytes(int32_t id) const override {
    return tokens_.at(static_cast<size_t>(id));
  }
  std::string token_name(int32_t id) const override { return tokens_.at(static_cast<size_t>(id)); }
  bool is_special(int32_t id) const override { return special_.contains(id); }
  std::optional<int32_t> find(std::string_view) const override { return std::nullopt; }
  int32_t vocab_size() const override { return static_cast<int32_t>(tokens_.size()); }

 private:
  std::vector<std::string> tokens_;
  std::set<int32_t> special_;
};

}  // namespace erne
