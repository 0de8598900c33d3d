// Ids back to text, whole and streaming, by one routine: decode() is a stream that ends. Both hold
// back an incomplete character. They differ in runs of byte pieces with invalid bytes: decode()
// replaces the whole run, as tokenizers' ByteFallback does, which a stream cannot know in time.
#include "base/error.h"
#include "base/utf8.h"
#include "token/tokenizer.h"

namespace erne {
namespace {

// Length of the invalid sequence at `at` that one U+FFFD stands for: the longest prefix of a
// character (Unicode 3.9, "substitution of maximal subparts"; Rust's from_utf8_lossy).
size_t maximal_subpart(std::string_view text, size_t at) {
  for (size_t size = 3; size > 1; --size) {
    const std::string_view part = text.substr(at, size);
    if (part.size() == size && utf8::incomplete_tail(part) == size) return size;
  }
  return 1;
}

// Appends `bytes` with invalid parts replaced.
void append_lossy(std::string_view bytes, std::string& out) {
  for (size_t at = 0; at < bytes.size();) {
    const utf8::Decoded d = utf8::decode(bytes, at);
    if (d.valid) {
      out.append(bytes.substr(at, static_cast<size_t>(d.size)));
      at += static_cast<size_t>(d.size);
    } else {
      utf8::append(out, utf8::kReplacement);
      at += maximal_subpart(bytes, at);
    }
  }
}

std::string without(std::string text, const std::string& part) {
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at))
    text.erase(at, part.size());
  return text;
}

}  // namespace

const DecodeRules& Tokenizer::decode_rules() const {
  static const DecodeRules* const kDefault =
      new DecodeRules();  // never freed: no destructor at exit
  return *kDefault;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  std::string out;
  StreamDecoder decoder(*this, skip_special_tokens);
  decoder.whole_runs_ = true;
  for (const int32_t id : ids) {
    if (id < 0 || id >= vocab_size()) {
      fail(Code::kInvalidArgument, "token id {} is outside the vocabulary of {} tokens", id,
           vocab_size());
    }
    decoder.append(id, out);
  }
  out += decoder.flush();
  return out;
}

std::vector<int32_t> Tokenizer::encode_plain(std::string_view text) const {
  const ByteRange all{0, text.size()};
  return encode(text, text.empty() ? std::span<const ByteRange>{} : std::span(&all, 1));
}

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special_tokens)
    : tokenizer_(tokenizer),
      skip_special_(skip_special_tokens),
      strip_left_(
          tokenizer.decode_rules().strip_start.empty() ? 0 : tokenizer.decode_rules().strip_count) {
}

std::string StreamDecoder::push(int32_t id) {
  std::string out;
  append(id, out);
  return out;
}

std::string StreamDecoder::flush() {
  std::string out;
  resolve(pending_.size(), out);
  return out;
}

void StreamDecoder::append(int32_t id, std::string& out) {
  if (id < 0 || id >= tokenizer_.vocab_size() || (skip_special_ && tokenizer_.is_special(id)))
    return;
  const DecodeRules& rules = tokenizer_.decode_rules();
  if (rules.bytes == DecodeRules::Bytes::kRuns) {
    if (tokenizer_.is_byte(id)) {
      pending_ += tokenizer_.token_bytes(id);
      if (!whole_runs_) resolve(pending_.size() - utf8::incomplete_tail(pending_), out);
    } else {
      resolve(pending_.size(), out);
      emit(text_of(id), out);
    }
    first_ = false;
    return;
  }
  pending_ += text_of(id);
  first_ = false;
  resolve(pending_.size() - utf8::incomplete_tail(pending_), out);
}

std::string StreamDecoder::text_of(int32_t id) const {
  const std::string& drop = tokenizer_.decode_rules().drop_in_first;
  if (first_ && !drop.empty()) return without(tokenizer_.token_name(id), drop);
  return std::string(tokenizer_.token_bytes(id));
}

void StreamDecoder::resolve(size_t size, std::string& out) {
  if (size == 0) return;
  std::string text;
  const auto bytes = std::string_view(pending_).substr(0, size);
  if (tokenizer_.decode_rules().bytes == DecodeRules::Bytes::kLossy) {
    append_lossy(bytes, text);
  } else if (whole_runs_ && !utf8::valid(bytes)) {
    for (size_t i = 0; i < size; ++i) utf8::append(text, utf8::kReplacement);
  } else {
    text = utf8::sanitize(bytes);
  }
  pending_.erase(0, size);
  emit(std::move(text), out);
}

void StreamDecoder::emit(std::string text, std::string& out) {
  const std::string& strip = tokenizer_.decode_rules().strip_start;
  size_t from = 0;
  while (strip_left_ > 0 && from < text.size()) {
    if (text.compare(from, strip.size(), strip) != 0) {
      strip_left_ = 0;
    } else {
      from += strip.size();
      --strip_left_;
    }
  }
  out.append(text, from);
}

}  // namespace erne
