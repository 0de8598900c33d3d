#include "token/pre_tokenizer.h"

#include <algorithm>

#include "base/utf8.h"
#include "token/char_class.h"

namespace erne {
namespace {

struct Piece {
  ByteRange range;
  bool match;
};

template <typename Next>
void split_digits(const PreTokenizer::Digits& step, std::string_view text, const Next& next) {
  const CharClasses& classes = CharClasses::get();
  size_t begin = 0;
  bool in_number = false;
  for (size_t at = 0; at < text.size();) {
    const utf8::Decoded d = utf8::decode(text, at);
    const bool number = (classes.of(d.codepoint) & CharClasses::kNumber) != 0;
    if (at > begin && (number != in_number || (number && step.individual))) {
      next(text.substr(begin, at - begin));
      begin = at;
    }
    in_number = number;
    at += static_cast<size_t>(d.size);
  }
  next(text.substr(begin));
}

// Matches and the gaps between them, covering the text.
std::vector<Piece> find_pieces(const PreTokenizer::Split& step, std::string_view text) {
  std::vector<Piece> pieces;
  size_t covered = 0;
  const auto take = [&](ByteRange match) {
    if (covered < match.begin) pieces.push_back({{covered, match.begin}, step.invert});
    pieces.push_back({match, !step.invert});
    covered = match.end;
  };
  if (const auto* literal = std::get_if<std::string>(&step.pattern)) {
    for (size_t at = text.find(*literal); at != std::string_view::npos;
         at = text.find(*literal, covered)) {
      take({at, at + literal->size()});
    }
  } else {
    Regex::Matcher matcher(std::get<Regex>(step.pattern), text);
    for (size_t from = 0; from <= text.size();) {
      const auto match = matcher.find(from);
      if (!match) break;
      const bool empty = match->begin == match->end;
      from = match->end;
      // An empty match right behind a match does not count; step over one character either way.
      if (!empty || match->begin != covered || covered == 0) take(*match);
      if (empty)
        from += from < text.size() ? static_cast<size_t>(utf8::decode(text, from).size) : 1;
    }
  }
  if (covered < text.size()) pieces.push_back({{covered, text.size()}, step.invert});
  return pieces;
}

// Joins neighbours as the behaviour asks.
std::vector<Piece> join(std::vector<Piece> pieces, PreTokenizer::Behaviour behaviour) {
  using Behaviour = PreTokenizer::Behaviour;
  if (behaviour == Behaviour::kRemoved) {
    std::erase_if(pieces, [](const Piece& p) { return p.match; });
    return pieces;
  }
  if (behaviour == Behaviour::kIsolated) return pieces;
  std::vector<Piece> out;
  bool previous = false;
  for (const Piece& piece : pieces) {
    bool joins = false;
    if (!out.empty()) {
      joins = behaviour == Behaviour::kContiguous           ? piece.match == previous
              : behaviour == Behaviour::kMergedWithPrevious ? piece.match && !previous
                                                            : previous && !piece.match;
    }
    if (joins) {
      out.back().range.end = piece.range.end;
    } else {
      out.push_back(piece);
    }
    previous = piece.match;
  }
  return out;
}

template <typename Next>
void split_pattern(const PreTokenizer::Split& step, std::string_view text, const Next& next) {
  for (const Piece& piece : join(find_pieces(step, text), step.behaviour)) {
    next(text.substr(piece.range.begin, piece.range.end - piece.range.begin));
  }
}

template <typename Next>
void split_byte_level(const PreTokenizer::ByteLevel& step, std::string_view text,
                      const Next& next) {
  std::string prefixed;
  if (step.add_prefix_space && !text.starts_with(' ')) {
    prefixed.reserve(text.size() + 1);
    prefixed += ' ';
    prefixed += text;
    text = prefixed;
  }
  if (!step.use_regex) return next(text);
  while (!text.empty()) {
    const size_t size = gpt2_match(text);
    next(text.substr(0, size));
    text.remove_prefix(size);
  }
}

template <typename Next>
void split_metaspace(const PreTokenizer::Metaspace& step, std::string_view text, bool at_start,
                     const Next& next) {
  std::string replaced;
  replaced.reserve(text.size() + text.size() / 2);
  for (const char c : text) {
    if (c == ' ') {
      replaced += step.replacement;
    } else {
      replaced += c;
    }
  }
  const bool wanted = step.prepend == PreTokenizer::Prepend::kAlways ||
                      (step.prepend == PreTokenizer::Prepend::kFirst && at_start);
  if (wanted && !replaced.starts_with(step.replacement)) replaced.insert(0, step.replacement);
  const std::string_view all = replaced;
  if (!step.split) return next(all);
  // Each replacement character begins a word.
  size_t begin = 0;
  while (begin < all.size()) {
    const size_t end = std::min(all.find(step.replacement, begin + 1), all.size());
    next(all.substr(begin, end - begin));
    begin = end;
  }
}

}  // namespace

bool PreTokenizer::byte_level() const {
  return std::any_of(steps_.begin(), steps_.end(),
                     [](const Step& s) { return std::holds_alternative<ByteLevel>(s); });
}

void PreTokenizer::run(size_t step, std::string_view text, bool at_start, const Sink& sink) const {
  if (text.empty()) return;
  if (step == steps_.size()) return sink(text);
  bool first = at_start;
  const auto next = [&](std::string_view piece) {
    run(step + 1, piece, first, sink);
    first = false;
  };
  const Step& any = steps_[step];
  if (const auto* digits = std::get_if<Digits>(&any)) {
    split_digits(*digits, text, next);
  } else if (const auto* split = std::get_if<Split>(&any)) {
    split_pattern(*split, text, next);
  } else if (const auto* byte_level = std::get_if<ByteLevel>(&any)) {
    split_byte_level(*byte_level, text, next);
  } else {
    split_metaspace(std::get<Metaspace>(any), text, at_start, next);
  }
}

}  // namespace erne
