// Text to token ids and back, for the two files that checkpoints ship: Hugging Face tokenizer.json
// and SentencePiece tokenizer.model. Immutable after loading; every method is thread-safe.
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

/// How token bytes become text.
struct DecodeRules {
  enum class Bytes : uint8_t {
    kLossy,  ///< all bytes together; U+FFFD for each maximal invalid part (byte-level BPE; Rust's
             ///< from_utf8_lossy)
    kRuns,  ///< a run of byte tokens together; U+FFFD for each of its bytes if the run is not valid
            ///< UTF-8 (ByteFallback)
  };
  Bytes bytes = Bytes::kLossy;
  std::string strip_start;  ///< this character is dropped from the beginning of the text, at most
                            ///< strip_count times
  int strip_count = 0;
  std::string drop_in_first;  ///< this character is dropped from the name of the first token
                              ///< (Metaspace); empty: none
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// Takes tokenizer.json if the folder has one, else tokenizer.model with added_tokens.json;
  /// special tokens also from tokenizer_config.json and special_tokens_map.json. Throws
  /// Error{kNotFound, kCorrupt, kUnsupported} naming the file, and for kUnsupported the feature.
  static std::unique_ptr<Tokenizer> load(const std::filesystem::path& folder);

  /// Ids of `text`; adds no BOS (see bos_id). Added tokens are cut out first, leftmost longest; a
  /// token marked special is never cut out of, or across, an untrusted range (digits and other
  /// non-special added tokens are).
  virtual std::vector<int32_t> encode(std::string_view text,
                                      std::span<const ByteRange> untrusted) const = 0;
  std::vector<int32_t> encode(const PromptText& prompt) const {
    return encode(prompt.text, prompt.untrusted);
  }
  /// All of `text` trusted: special tokens are recognised.
  std::vector<int32_t> encode(std::string_view text) const { return encode(text, {}); }
  /// All of `text` untrusted: no special token comes out.
  std::vector<int32_t> encode_plain(std::string_view text) const;

  /// The bytes that `id` contributes to a text, exactly (may be part of a character); empty for an
  /// id without a token. Throws Error{kInvalidArgument} for an id outside the vocabulary.
  virtual std::string_view token_bytes(int32_t id) const = 0;
  /// What users see as the token's name in tables ("<0x0A>", "Ġthe", "▁of").
  virtual std::string token_name(int32_t id) const = 0;
  virtual bool is_special(int32_t id) const = 0;
  /// The id of a token by its exact name, e.g. "<|im_end|>".
  virtual std::optional<int32_t> find(std::string_view name) const = 0;
  /// One more than the largest id that has a token.
  virtual int32_t vocab_size() const = 0;

  virtual const DecodeRules& decode_rules() const;
  /// Whether the token stands for one raw byte ("<0x0A>").
  virtual bool is_byte(int32_t) const { return false; }

  /// Whole-sequence decode, always valid UTF-8 (see DecodeRules). Ids without a token give nothing;
  /// throws Error{kInvalidArgument} for an id outside [0, vocab_size()).
  std::string decode(std::span<const int32_t> ids, bool skip_special_tokens) const;

  const std::optional<int32_t>& bos_id() const { return bos_id_; }
  const std::optional<int32_t>& eos_id() const { return eos_id_; }
  /// Whether the tokenizer's own files ask for BOS before a plain completion prompt (never for
  /// ERNIE).
  bool add_bos() const { return add_bos_; }

 protected:
  std::optional<int32_t> bos_id_;
  std::optional<int32_t> eos_id_;
  bool add_bos_ = false;
};

/// Decodes a growing sequence: push() returns every whole character as soon as its last byte is
/// there, never half a one. Concatenated results equal Tokenizer::decode of the same ids, but for
/// one case: a run of byte tokens (Bytes::kRuns) that is not valid UTF-8. decode() replaces all of
/// such a run; the stream has told its valid characters already (a newline may be a byte token, and
/// readers and stop strings wait for it), keeps those, and replaces each other byte.
class StreamDecoder {
 public:
  /// `tokenizer` must outlive the decoder.
  StreamDecoder(const Tokenizer& tokenizer, bool skip_special_tokens);
  /// An id without a token gives nothing, also one outside the vocabulary (models have more rows
  /// than tokens).
  std::string push(int32_t id);
  /// What is left at the end: incomplete bytes as U+FFFD.
  std::string flush();

 private:
  friend class Tokenizer;
  void append(int32_t id, std::string& out);
  void resolve(size_t size, std::string& out);
  void emit(std::string text, std::string& out);
  std::string text_of(int32_t id) const;

  const Tokenizer& tokenizer_;
  bool skip_special_;
  bool first_ = true;
  bool whole_runs_ = false;  // decode(): byte runs are judged when they end
  int strip_left_;
  std::string pending_;
};

}  // namespace erne
