#include "token/bpe.h"

#include <algorithm>
#include <queue>

#include "base/error.h"
#include "base/utf8.h"
#include "token/byte_alphabet.h"
#include "token/char_class.h"

namespace erne {
namespace {

constexpr uint32_t kBmpEnd = 0x10000;
// Up to this many symbols a scan for the best pair beats a heap (measured on English and Chinese
// text).
constexpr size_t kShort = 32;

uint64_t pair_key(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

}  // namespace

Bpe::Bpe(const Vocabulary& vocabulary, const std::vector<bool>& hidden,
         std::span<const BpeMerge> merges, const BpeOptions& options)
    : vocabulary_(vocabulary), options_(options), hidden_(hidden) {
  hidden_.resize(static_cast<size_t>(vocabulary.size()), false);
  fill_symbols(vocabulary, hidden_);
  fill_merges(vocabulary, hidden_, merges);
}

void Bpe::fill_symbols(const Vocabulary& vocabulary, const std::vector<bool>& hidden) {
  byte_symbols_.fill(-1);
  bmp_symbols_.assign(kBmpEnd, -1);
  std::vector<std::pair<uint32_t, int32_t>> astral;
  for (int32_t id = 0; id < vocabulary.size(); ++id) {
    const std::string* name = vocabulary.name(id);
    if (name == nullptr || name->empty() || hidden[static_cast<size_t>(id)]) continue;
    longest_token_ = std::max(longest_token_, name->size());
    if (const auto byte = byte_piece(*name); byte && options_.byte_fallback)
      byte_symbols_[*byte] = id;
    const utf8::Decoded d = utf8::decode(*name, 0);
    if (!d.valid || static_cast<size_t>(d.size) != name->size()) continue;
    if (d.codepoint < kBmpEnd) {
      bmp_symbols_[d.codepoint] = id;
    } else {
      astral.emplace_back(d.codepoint, id);
    }
  }
  astral_symbols_ = FlatMap(astral.size());
  for (const auto& [codepoint, id] : astral)
    astral_symbols_.insert(codepoint, static_cast<uint64_t>(id));
  if (options_.byte_level) {
    for (size_t byte = 0; byte < 256; ++byte)
      byte_symbols_[byte] = bmp_symbols_[byte_alphabet()[byte]];
  }
}

void Bpe::fill_merges(const Vocabulary& vocabulary, const std::vector<bool>& hidden,
                      std::span<const BpeMerge> merges) {
  // A symbol borders another one inside a token either as that merge's side itself (a character, a
  // byte piece, unk) or as the last or first character of a side. Where no merge has two symbols
  // side by side no merge can ever cross.
  const auto edge = [&](int32_t id, bool last) {
    const std::string& name = *vocabulary.name(id);
    const utf8::Decoded d = utf8::decode(name, last ? previous_char(name, name.size()) : 0);
    return d.valid ? symbol(d.codepoint) : -1;
  };
  merges_ = FlatMap(merges.size());
  joinable_ = FlatMap(merges.size() * 4);
  for (const BpeMerge& merge : merges) {
    if (hidden[static_cast<size_t>(merge.result)]) continue;
    merges_.insert(pair_key(merge.left, merge.right),
                   uint64_t{merge.rank} << 32 | static_cast<uint32_t>(merge.result));
    for (const int32_t left : {merge.left, edge(merge.left, true)}) {
      for (const int32_t right : {merge.right, edge(merge.right, false)}) {
        if (left >= 0 && right >= 0) joinable_.insert(pair_key(left, right), 1);
      }
    }
  }
}

int32_t Bpe::symbol(uint32_t codepoint) const {
  if (codepoint < kBmpEnd) return bmp_symbols_[codepoint];
  const uint64_t found = astral_symbols_.find(codepoint);
  return found == FlatMap::kNone ? -1 : static_cast<int32_t>(found);
}

std::optional<int32_t> Bpe::whole(std::string_view word) const {
  if (word.size() > longest_token_) return std::nullopt;
  const auto id =
      options_.byte_level ? vocabulary_.find(to_byte_alphabet(word)) : vocabulary_.find(word);
  if (!id || hidden_[static_cast<size_t>(*id)]) return std::nullopt;
  return id;
}

void Bpe::add_unknown(Symbols& symbols, bool& after_unknown) const {
  if (!options_.unk) return;
  if (!(after_unknown && options_.fuse_unk)) symbols.push_back(*options_.unk);
  after_unknown = true;
}

void Bpe::split_characters(std::string_view word, Symbols& symbols) const {
  bool after_unknown = false;
  for (size_t at = 0; at < word.size();) {
    const utf8::Decoded d = utf8::decode(word, at);
    const auto bytes = word.substr(at, static_cast<size_t>(d.size));
    at += bytes.size();
    const int32_t id = d.valid ? symbol(d.codepoint) : -1;
    if (id < 0 && !options_.byte_fallback) {
      add_unknown(symbols, after_unknown);
      continue;
    }
    after_unknown = false;
    if (id >= 0) {
      symbols.push_back(id);
    } else {
      for (const char byte : bytes)
        symbols.push_back(byte_symbols_[static_cast<unsigned char>(byte)]);
    }
  }
}

void Bpe::split_bytes(std::string_view word, Symbols& symbols) const {
  bool after_unknown = false;
  for (const char byte : word) {
    const int32_t id = byte_symbols_[static_cast<unsigned char>(byte)];
    if (id < 0) {
      add_unknown(symbols, after_unknown);
      continue;
    }
    after_unknown = false;
    symbols.push_back(id);
  }
}

uint64_t Bpe::merge_of(int32_t left, int32_t right) const {
  return merges_.find(pair_key(left, right));
}

void Bpe::encode(std::string_view word, std::vector<int32_t>& out) const {
  if (options_.ignore_merges) {
    if (const auto id = whole(word)) return out.push_back(*id);
  }
  Symbols symbols;
  symbols.reserve(word.size());
  if (options_.byte_level) {
    split_bytes(word, symbols);
  } else {
    split_characters(word, symbols);
  }
  const std::span<int32_t> all(symbols);
  if (all.size() <= kShort) return merge_short(all, out);
  for (size_t begin = 0; begin < all.size();) {
    size_t end = begin + 1;
    while (end < all.size() && joinable_.find(pair_key(all[end - 1], all[end])) != FlatMap::kNone)
      ++end;
    const auto stretch = all.subspan(begin, end - begin);
    if (stretch.size() <= kShort) {
      merge_short(stretch, out);
    } else {
      merge_long(stretch, out);
    }
    begin = end;
  }
}

void Bpe::merge_short(std::span<int32_t> symbols, std::vector<int32_t>& out) const {
  // pairs[i] is the merge of symbols i and i+1; kNone ranks behind every merge.
  std::array<uint64_t, kShort> pairs;
  size_t count = symbols.size();
  for (size_t i = 0; i + 1 < count; ++i) pairs[i] = merge_of(symbols[i], symbols[i + 1]);
  while (count > 1) {
    const auto* best = std::min_element(pairs.data(), pairs.data() + count - 1,
                                        [](uint64_t a, uint64_t b) { return a >> 32 < b >> 32; });
    if (*best == FlatMap::kNone) break;
    const auto at = static_cast<size_t>(best - pairs.data());
    symbols[at] = static_cast<int32_t>(*best & 0xFFFFFFFFU);
    std::copy(symbols.data() + at + 2, symbols.data() + count, symbols.data() + at + 1);
    std::copy(pairs.data() + at + 1, pairs.data() + count - 1, pairs.data() + at);
    --count;
    if (at + 1 < count) pairs[at] = merge_of(symbols[at], symbols[at + 1]);
    if (at > 0) pairs[at - 1] = merge_of(symbols[at - 1], symbols[at]);
  }
  out.insert(out.end(), symbols.data(), symbols.data() + count);
}

void Bpe::merge_long(std::span<int32_t> symbols, std::vector<int32_t>& out) const {
  constexpr int32_t kGone = -1;
  struct Candidate {
    uint64_t order;  // rank << 32 | position: lowest rank first, then leftmost
    int32_t left;    // the pair as it was when queued; stale once either side has changed
    int32_t right;
    int32_t result;
    bool operator>(const Candidate& other) const { return order > other.order; }
  };
  const size_t count = symbols.size();
  std::vector<uint32_t> next(count);
  std::vector<uint32_t> previous(count);
  std::vector<Candidate> initial;
  const auto candidate = [&](size_t at, size_t after) -> std::optional<Candidate> {
    const uint64_t merge = merge_of(symbols[at], symbols[after]);
    if (merge == FlatMap::kNone) return std::nullopt;
    return Candidate{(merge & 0xFFFFFFFF00000000U) | at, symbols[at], symbols[after],
                     static_cast<int32_t>(merge & 0xFFFFFFFFU)};
  };
  for (size_t i = 0; i < count; ++i) {
    next[i] = static_cast<uint32_t>(i + 1);
    previous[i] = static_cast<uint32_t>(i) - 1;  // wraps for the first, which is never asked
    if (i + 1 < count) {
      if (const auto c = candidate(i, i + 1)) initial.push_back(*c);
    }
  }
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue(std::greater<>{},
                                                                               std::move(initial));
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    const auto at = static_cast<size_t>(best.order & 0xFFFFFFFFU);
    const size_t after = next[at];
    if (symbols[at] != best.left || after >= count || symbols[after] != best.right) continue;
    symbols[at] = best.result;
    symbols[after] = kGone;
    next[at] = next[after];
    if (next[at] < count) {
      previous[next[at]] = static_cast<uint32_t>(at);
      if (const auto c = candidate(at, next[at])) queue.push(*c);
    }
    if (at > 0) {
      if (const auto c = candidate(previous[at], at)) queue.push(*c);
    }
  }
  for (size_t i = 0; i < count; i = next[i]) out.push_back(symbols[i]);
}

}  // namespace erne
