// Text to token ids and back, for the two files that checkpoints ship: Hugging Face tokenizer.json and SentencePiece
// tokenizer.model. Immutable after loading; every method is thread-safe.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/text_range.h"

namespace erne {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// Takes tokenizer.json if the folder has one, else tokenizer.model with added_tokens.json; special tokens also from
  /// tokenizer_config.json and special_tokens_map.json. Throws Error{kNotFound, kCorrupt, kUnsupported} naming the file, and
  /// for kUnsupported the feature.
  static std::unique_ptr<Tokenizer> load(const std::filesystem::path& folder);

  /// Ids of `text`; adds no BOS (see bos_id). Added tokens are cut out first, leftmost longest; a token marked special is
  /// never cut out of, or across, an untrusted range (digits and other non-special added tokens are).
  virtual std::vector<int32_t> encode(std::string_view text, std::span<const ByteRange> untrusted) const = 0;
  std::vector<int32_t> encode(const PromptText& prompt) const { return encode(prompt.text, prompt.untrusted); }
  /// All of `text` trusted: special tokens are recognised.
  std::vector<int32_t> encode(std::string_view text) const { return encode(text, {}); }
  /// All of `text` untrusted: no special token comes out.
  std::vector<int32_t> encode_plain(std::string_view text) const;

  /// The bytes that `id` contributes to a text, exactly (may be part of a character); empty for an id without a token.
  /// Throws Error{kInvalidArgument} for an id outside the vocabulary.
  virtual std::string_view token_bytes(int32_t id) const = 0;
  /// What users see as the token's name in tables ("<0x0A>", "Ġthe", "▁of").
  virtual std::string token_name(int32_t id) const = 0;
  virtual bool is_special(int32_t id) const = 0;
  /// The id of a token by its exact name, e.g. "<|im_end|>".
  virtual std::optional<int32_t> find(std::string_view name) const = 0;
  /// One more than the largest id that has a token.
  virtual int32_t vocab_size() const = 0;

  /// Whole-sequence decode: invalid UTF-8 becomes U+FFFD, one per byte.
  std::string decode(std::span<const int32_t> ids, bool skip_special_tokens) const;

  const std::optional<int32_t>& bos_id() const { return bos_id_; }
  const std::optional<int32_t>& eos_id() const { return eos_id_; }
  /// Whether the tokenizer's own files ask for BOS before a plain completion prompt (never for ERNIE).
  bool add_bos() const { return add_bos_; }

 protected:
  std::optional<int32_t> bos_id_;
  std::optional<int32_t> eos_id_;
  bool add_bos_ = false;
};

/// Decodes a growing sequence: push() returns the text that is certain, never half a UTF-8 character. Concatenated
/// results equal Tokenizer::decode of the same ids.
class StreamDecoder {
 public:
  StreamDecoder(const Tokenizer& tokenizer, bool skip_special_tokens)
      : tokenizer_(tokenizer), skip_special_(skip_special_tokens) {}
  std::string push(int32_t id);
  /// What is left at the end: incomplete bytes as U+FFFD.
  std::string flush();

 private:
  const Tokenizer& tokenizer_;
  bool skip_special_;
  std::string pending_;
};

}  // namespace erne
