// Byte-pair encoding of one word: start from characters (or bytes), merge the adjacent pair of
// lowest rank, leftmost first, until none is left. Sennrich et al. 2016; ranks and fallbacks as
// Hugging Face's tokenizers apply them.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "token/flat_map.h"
#include "token/vocabulary.h"

namespace erne {

struct BpeMerge {
  int32_t left;
  int32_t right;
  int32_t result;
  uint32_t rank;
};

struct BpeOptions {
  bool byte_level = false;     ///< words are bytes, each one symbol of the byte alphabet
  bool byte_fallback = false;  ///< a character without a token becomes its "<0x..>" pieces
  bool fuse_unk = false;       ///< neighbouring unknown characters make one unk
  bool ignore_merges = false;  ///< a word that is a token is taken whole
  std::optional<int32_t> unk;  ///< without it unknown characters are dropped
};

class Bpe {
 public:
  /// `vocabulary` holds the model's own tokens and outlives the object. Tokens with hidden[id] come
  /// out of no word.
  Bpe(const Vocabulary& vocabulary, const std::vector<bool>& hidden,
      std::span<const BpeMerge> merges, const BpeOptions& options);

  /// Appends the ids of `word` (valid UTF-8, or any bytes with byte_level) to `out`. n log n in the
  /// longest stretch that could merge, linear in the number of stretches.
  void encode(std::string_view word, std::vector<int32_t>& out) const;

 private:
  using Symbols = std::vector<int32_t>;

  void fill_symbols(const Vocabulary& vocabulary, const std::vector<bool>& hidden);
  void fill_merges(const Vocabulary& vocabulary, const std::vector<bool>& hidden,
                   std::span<const BpeMerge> merges);
  std::optional<int32_t> whole(std::string_view word) const;
  int32_t symbol(uint32_t codepoint) const;
  void add_unknown(Symbols& symbols, bool& after_unknown) const;
  void split_characters(std::string_view word, Symbols& symbols) const;
  void split_bytes(std::string_view word, Symbols& symbols) const;
  uint64_t merge_of(int32_t left, int32_t right) const;
  void merge_short(std::span<int32_t> symbols, std::vector<int32_t>& out) const;
  void merge_long(std::span<int32_t> symbols, std::vector<int32_t>& out) const;

  const Vocabulary& vocabulary_;
  BpeOptions options_;
  std::vector<bool> hidden_;
  size_t longest_token_ = 0;
  std::array<int32_t, 256> byte_symbols_{};
  std::vector<int32_t> bmp_symbols_;  // by code point below 0x10000
  FlatMap astral_symbols_;
  FlatMap merges_;    // (left, right) -> rank << 32 | result
  FlatMap joinable_;  // (left, right) symbols that stand side by side within some token
};

}  // namespace erne
