#include "token/bpe_tokenizer.h"

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "base/utf8.h"
#include "token/byte_alphabet.h"

namespace erne {
namespace {

constexpr size_t kMaxTextBytes = size_t{1} << 30;  // positions inside BPE are 32 bits

std::string replace_all(std::string text, const std::pair<std::string, std::string>& rule) {
  Normalizer normalizer;
  normalizer.add(Normalizer::Replace{rule.first, rule.second});
  return normalizer.apply(text);
}

// Ranges of `text` as ranges of utf8::sanitize(text), in which each invalid byte has grown to
// three.
std::vector<ByteRange> sanitized_ranges(std::string_view text, std::span<const ByteRange> ranges) {
  std::vector<ByteRange> out;
  size_t at = 0;
  size_t grown = 0;
  const auto position = [&](size_t offset, bool end) {
    while (at < offset) {
      const utf8::Decoded d = utf8::decode(text, at);
      // A character that a range cuts belongs to it: begin stays before the character, end goes
      // behind it.
      if (!end && at + static_cast<size_t>(d.size) > offset) break;
      at += static_cast<size_t>(d.size);
      grown += d.valid ? static_cast<size_t>(d.size) : 3;
    }
    return grown;
  };
  for (const ByteRange& range : ranges) {
    const size_t begin = position(range.begin, false);
    out.push_back({begin, position(range.end, true)});
  }
  return out;
}

// The ranges cut to [begin, end), relative to begin.
std::vector<ByteRange> clip(std::span<const ByteRange> ranges, size_t begin, size_t end) {
  std::vector<ByteRange> out;
  for (const ByteRange& range : ranges) {
    const size_t from = std::max(range.begin, begin);
    const size_t to = std::min(range.end, end);
    if (from < to) out.push_back({from - begin, to - begin});
  }
  return out;
}

std::vector<AddedToken> normalized_tokens(const std::vector<AddedToken>& all,
                                          const Normalizer& normalizer) {
  std::vector<AddedToken> out;
  for (const AddedToken& token : all) {
    if (!token.normalized) continue;
    out.push_back(token);
    out.back().content = normalizer.apply(token.content);
    if (out.back().content.empty()) out.pop_back();
  }
  return out;
}

std::vector<AddedToken> raw_tokens(std::vector<AddedToken> all) {
  std::erase_if(all, [](const AddedToken& token) { return token.normalized; });
  return all;
}

void check_ranges(std::string_view text, std::span<const ByteRange> ranges) {
  size_t previous = 0;
  for (const ByteRange& range : ranges) {
    ERNE_CHECK(range.begin >= previous && range.begin <= range.end && range.end <= text.size(),
               "untrusted range {}..{} of {} bytes", range.begin, range.end, text.size());
    previous = range.end;
  }
}

}  // namespace

BpeTokenizer::BpeTokenizer(BpeParts parts)
    : vocabulary_(std::move(parts.vocabulary)),
      normalizer_(std::move(parts.normalizer)),
      pre_tokenizer_(std::move(parts.pre_tokenizer)),
      raw_matcher_(raw_tokens(parts.added)),
      normalized_matcher_(normalized_tokens(parts.added, normalizer_)),
      decode_(std::move(parts.decode)) {
  const auto count = static_cast<size_t>(vocabulary_.size());
  special_.assign(count, false);
  for (const AddedToken& token : parts.added)
    special_[static_cast<size_t>(token.id)] = token.special;
  // Not even spelled out by merges may a special token come out of plain text.
  std::vector<bool> hidden(count, false);
  parts.model_token.resize(count, false);
  for (size_t id = 0; id < count; ++id) hidden[id] = special_[id] || !parts.model_token[id];
  bpe_ = std::make_unique<const Bpe>(vocabulary_, hidden, parts.merges, parts.options);
  fill_texts(parts.token_text);
  if (parts.bos) bos_id_ = vocabulary_.find(*parts.bos);
  if (parts.eos) eos_id_ = vocabulary_.find(*parts.eos);
  add_bos_ = parts.add_bos.value_or(false) && bos_id_.has_value();
}

void BpeTokenizer::fill_texts(const TokenText& rules) {
  byte_.assign(special_.size(), false);
  text_ends_.assign(1, 0);
  text_ends_.reserve(special_.size() + 1);
  for (int32_t id = 0; id < vocabulary_.size(); ++id) {
    if (const std::string* name = vocabulary_.name(id)) {
      std::string text = *name;
      for (const auto& rule : rules.replace) text = replace_all(std::move(text), rule);
      const auto byte = rules.byte_pieces ? byte_piece(text) : std::nullopt;
      if (byte) {
        byte_[static_cast<size_t>(id)] = true;
        text.assign(1, static_cast<char>(*byte));
      } else if (rules.byte_level) {
        // An added token may hold characters outside the alphabet (a space): such a name is plain
        // text.
        if (auto bytes = from_byte_alphabet(text)) text = std::move(*bytes);
      }
      texts_ += text;
    }
    if (texts_.size() > std::numeric_limits<uint32_t>::max())
      fail(Code::kCorrupt, "tokenizer names of over 4 GB");
    text_ends_.push_back(static_cast<uint32_t>(texts_.size()));
  }
}

std::vector<int32_t> BpeTokenizer::encode(std::string_view text,
                                          std::span<const ByteRange> untrusted) const {
  check_ranges(text, untrusted);
  if (text.size() > kMaxTextBytes) {
    fail(Code::kInvalidArgument, "text of {} bytes to tokenize; at most {} are taken", text.size(),
         kMaxTextBytes);
  }
  std::vector<int32_t> out;
  out.reserve(text.size() / 4 + 8);
  if (utf8::valid(text)) {
    encode_valid(text, untrusted, out);
  } else {
    encode_valid(utf8::sanitize(text), sanitized_ranges(text, untrusted), out);
  }
  return out;
}

void BpeTokenizer::encode_valid(std::string_view text, std::span<const ByteRange> untrusted,
                                std::vector<int32_t>& out) const {
  size_t from = 0;
  while (const auto match = raw_matcher_.next(text, from, untrusted)) {
    encode_span(text.substr(from, match->begin - from), from, untrusted, out);
    out.push_back(match->id);
    from = match->end;
  }
  encode_span(text.substr(from), from, untrusted, out);
}

// `text` lies at `offset` of the input and holds no token that is matched in the raw text.
void BpeTokenizer::encode_span(std::string_view text, size_t offset,
                               std::span<const ByteRange> untrusted,
                               std::vector<int32_t>& out) const {
  if (text.empty()) return;
  const bool at_start = offset == 0;
  if (!normalized_matcher_.empty()) {
    const auto ranges = normalized_matcher_.has_special()
                            ? clip(untrusted, offset, offset + text.size())
                            : std::vector<ByteRange>{};
    encode_normalized(normalizer_.apply(text, ranges), at_start, out);
  } else if (normalizer_.identity()) {
    encode_words(text, at_start, out);
  } else {
    encode_words(normalizer_.apply(text), at_start, out);
  }
}

void BpeTokenizer::encode_normalized(const PromptText& text, bool at_start,
                                     std::vector<int32_t>& out) const {
  const std::string_view all = text.text;
  size_t from = 0;
  while (const auto match = normalized_matcher_.next(all, from, text.untrusted)) {
    encode_words(all.substr(from, match->begin - from), at_start && from == 0, out);
    out.push_back(match->id);
    from = match->end;
  }
  encode_words(all.substr(from), at_start && from == 0, out);
}

void BpeTokenizer::encode_words(std::string_view text, bool at_start,
                                std::vector<int32_t>& out) const {
  pre_tokenizer_.split(text, at_start, [&](std::string_view word) { bpe_->encode(word, out); });
}

std::string_view BpeTokenizer::token_bytes(int32_t id) const {
  if (id < 0 || id >= vocab_size()) {
    fail(Code::kInvalidArgument, "token id {} is outside the vocabulary of {} tokens", id,
         vocab_size());
  }
  const auto index = static_cast<size_t>(id);
  return std::string_view(texts_).substr(text_ends_[index],
                                         text_ends_[index + 1] - text_ends_[index]);
}

std::string BpeTokenizer::token_name(int32_t id) const {
  const std::string* name = vocabulary_.name(id);
  return name == nullptr ? std::string() : *name;
}

bool BpeTokenizer::is_special(int32_t id) const {
  return id >= 0 && id < vocab_size() && special_[static_cast<size_t>(id)];
}

bool BpeTokenizer::is_byte(int32_t id) const {
  return id >= 0 && id < vocab_size() && byte_[static_cast<size_t>(id)];
}

}  // namespace erne
