#include "engine/output.h"

#include <algorithm>
#include <string_view>
#include <utility>

namespace erne {

OutputText::OutputText(const Tokenizer* tokenizer, const Request& request)
    : tokenizer_(tokenizer), request_(&request) {
  if (tokenizer_ != nullptr) decoder_.emplace(*tokenizer_, request.skip_special_tokens);
}

std::optional<std::string> OutputText::push(int32_t id, bool stops_count) {
  ids_.push_back(id);
  if (!decoder_) return std::nullopt;
  const size_t first_new = text_.size();
  text_ += decoder_->push(id);
  last_token_end_ = released_ + text_.size();
  // A token that is the beginning of a character shows when the character does: its end lies one
  // byte ahead.
  const bool silent = (request_->skip_special_tokens && tokenizer_->is_special(id)) ||
                      tokenizer_->token_bytes(id).empty();
  if (text_.size() == first_new && !silent) ++last_token_end_;
  if (!stops_count || request_->stop.empty()) return std::nullopt;
  return cut_at_stop(first_new);
}

void OutputText::push_silent(int32_t id) {
  ids_.push_back(id);
  last_token_end_ = released_ + text_.size();
}

void OutputText::add_logprob(TokenLogprob logprob) {
  logprobs_.push_back({std::move(logprob), last_token_end_});
}

// The match that ends first wins, of those the longest: this does not depend on how the text was
// cut into tokens.
std::optional<std::string> OutputText::cut_at_stop(size_t first_new) {
  size_t best_end = std::string::npos;
  size_t best_begin = 0;
  const std::string* best = nullptr;
  for (const std::string& stop : request_->stop) {
    const size_t from = first_new + 1 > stop.size() ? first_new + 1 - stop.size() : 0;
    const size_t begin = text_.find(stop, from);
    if (begin == std::string::npos) continue;
    const size_t end = begin + stop.size();
    if (end < best_end || (end == best_end && begin < best_begin)) {
      best_end = end;
      best_begin = begin;
      best = &stop;
    }
  }
  if (best == nullptr) return std::nullopt;
  text_.resize(request_->no_stop_trim ? best_end : best_begin);
  decoder_.emplace(
      *tokenizer_,
      request_->skip_special_tokens);  // drops bytes of a character begun behind the match
  finished_ = true;
  return *best;
}

// Length of the longest suffix of text_ that a stop string could still grow from.
size_t OutputText::held_suffix() const {
  size_t held = 0;
  const std::string_view text = text_;
  for (const std::string& stop : request_->stop) {
    for (size_t n = std::min(stop.size() - 1, text.size()); n > held; --n) {
      if (text.substr(text.size() - n) == std::string_view(stop).substr(0, n)) held = n;
    }
  }
  return held;
}

std::optional<std::string> OutputText::finish(bool stops_count) {
  if (finished_) return std::nullopt;
  finished_ = true;
  if (!decoder_) return std::nullopt;
  const size_t first_new = text_.size();
  text_ += decoder_->flush();
  return stops_count ? cut_at_stop(first_new) : std::nullopt;
}

void OutputText::take(Output& output) {
  const size_t ready = text_.size() - (finished_ ? 0 : held_suffix());
  output.text.assign(text_, 0, ready);
  text_.erase(0, ready);
  released_ += ready;
  output.token_ids = std::exchange(ids_, {});
  while (!logprobs_.empty() && (finished_ || logprobs_.front().end <= released_)) {
    output.logprobs.push_back(std::move(logprobs_.front().logprob));
    logprobs_.pop_front();
  }
}

}  // namespace erne
