// What a choice holds while it lives: its tokens and the counts for its penalties.
#include "engine/sequence.h"

#include "base/error.h"

namespace erne {
namespace {

constexpr int64_t kReservedOutput = 256;  // tokens that append() adds without moving the prompt

}  // namespace

std::span<const int32_t> Sequence::tokens() const {
  return tokens_.empty() ? std::span<const int32_t>(request->request.prompt_ids) : tokens_;
}

int64_t Sequence::size() const { return request->prompt_len() + generated_; }

void Sequence::begin() {
  if (!tokens_.empty()) return;
  const std::vector<int32_t>& prompt = request->request.prompt_ids;
  tokens_.reserve(prompt.size() +
                  static_cast<size_t>(std::min(request->max_new_tokens, kReservedOutput)));
  tokens_ = prompt;
  counts.set_prompt(request->penalised_prompt());
}

void Sequence::append(int32_t id) {
  ERNE_CHECK(!tokens_.empty());
  tokens_.push_back(id);
  ++generated_;
}

void Sequence::drop_tokens() {
  tokens_ = {};
  counts = {};
}

std::span<const int32_t> LiveRequest::penalised_prompt() {
  if (distinct_prompt.empty() && request.sampling.repetition_penalty != 1.0) {
    distinct_prompt = request.prompt_ids;
    std::sort(distinct_prompt.begin(), distinct_prompt.end());
    distinct_prompt.erase(std::unique(distinct_prompt.begin(), distinct_prompt.end()),
                          distinct_prompt.end());
  }
  return distinct_prompt;
}

}  // namespace erne
