// The tokenizer behind both file formats: added tokens, normalizer, pre-tokenizer, BPE, decoder.
// The readers (tokenizer_json, sentencepiece, special_tokens) fill BpeParts; nothing changes after
// that.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "token/added_tokens.h"
#include "token/bpe.h"
#include "token/normalizer.h"
#include "token/pre_tokenizer.h"
#include "token/tokenizer.h"
#include "token/vocabulary.h"

namespace erne {

/// How the name of a token becomes its bytes.
struct TokenText {
  bool byte_level = false;   ///< names are in the byte alphabet
  bool byte_pieces = false;  ///< "<0x0A>" is a byte
  std::vector<std::pair<std::string, std::string>>
      replace;  ///< pattern, content; in order, before byte_pieces
};

/// What a tokenizer is made of.
struct BpeParts {
  Vocabulary vocabulary;          ///< the model's tokens and the added ones
  std::vector<bool> model_token;  ///< by id: BPE may produce it
  std::vector<BpeMerge> merges;
  BpeOptions options;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  std::vector<AddedToken> added;  ///< ids in vocabulary, each once
  TokenText token_text;
  DecodeRules decode;
  std::optional<std::string> bos;  ///< by name
  std::optional<std::string> eos;
  std::optional<bool> add_bos;
};

class BpeTokenizer final : public Tokenizer {
 public:
  explicit BpeTokenizer(BpeParts parts);

  using Tokenizer::encode;
  std::vector<int32_t> encode(std::string_view text,
                              std::span<const ByteRange> untrusted) const override;
  std::string_view token_bytes(int32_t id) const override;
  std::string token_name(int32_t id) const override;
  bool is_special(int32_t id) const override;
  std::optional<int32_t> find(std::string_view name) const override {
    return vocabulary_.find(name);
  }
  int32_t vocab_size() const override { return vocabulary_.size(); }
  const DecodeRules& decode_rules() const override { return decode_; }
  bool is_byte(int32_t id) const override;

 private:
  void fill_texts(const TokenText& rules);
  void encode_valid(std::string_view text, std::span<const ByteRange> untrusted,
                    std::vector<int32_t>& out) const;
  void encode_span(std::string_view text, size_t offset, std::span<const ByteRange> untrusted,
                   std::vector<int32_t>& out) const;
  void encode_normalized(const PromptText& text, bool at_start, std::vector<int32_t>& out) const;
  void encode_words(std::string_view text, bool at_start, std::vector<int32_t>& out) const;

  Vocabulary vocabulary_;
  std::vector<bool> special_;
  std::vector<bool> byte_;
  std::string texts_;                // the bytes of all tokens, one after the other
  std::vector<uint32_t> text_ends_;  // token i is texts_[text_ends_[i], text_ends_[i + 1])
  Normalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  AddedTokenMatcher raw_matcher_;
  AddedTokenMatcher normalized_matcher_;
  std::unique_ptr<const Bpe> bpe_;
  DecodeRules decode_;
};

}  // namespace erne
