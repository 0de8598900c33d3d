#include "model/sequence_runner.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/error.h"

namespace erne {
namespace {

constexpr int kMaxBlockTokens = 4096;

int64_t blocks_of(int64_t tokens, int block_tokens) {
  return (tokens + block_tokens - 1) / block_tokens;
}

int64_t total_blocks(std::span<const int64_t> capacities, int block_tokens) {
  return std::accumulate(
      capacities.begin(), capacities.end(), int64_t{0},
      [&](int64_t sum, int64_t tokens) { return sum + blocks_of(tokens, block_tokens); });
}

// Block ids 0 … count-1 in a scrambled order that is the same at every call.
std::vector<int32_t> shuffled_blocks(int64_t count) {
  std::vector<int32_t> pool(static_cast<size_t>(count));
  std::iota(pool.begin(), pool.end(), 0);
  uint64_t state = 1;
  for (size_t i = pool.size(); i > 1; --i) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    std::swap(pool[i - 1], pool[(state >> 33) % i]);
  }
  return pool;
}

void check_block_tokens(int block_tokens) {
  if (block_tokens >= 1 && block_tokens <= kMaxBlockTokens) return;
  fail(Code::kInvalidArgument, "a KV page must have 1 to {} tokens, got {}", kMaxBlockTokens,
       block_tokens);
}

}  // namespace

SequenceRunner::SequenceRunner(const TextModel& model, Device& device, int block_tokens)
    : model_(model), device_(device), block_tokens_(block_tokens) {
  check_block_tokens(block_tokens);
}

void SequenceRunner::begin(std::span<const int64_t> capacities, int64_t max_tokens,
                           int64_t max_rows) {
  std::vector<int32_t> pool = shuffled_blocks(total_blocks(capacities, block_tokens_));
  if (std::cmp_greater(pool.size(), cache_.num_blocks))
    cache_ =
        device_.make_kv_cache(model_.kv_spec(block_tokens_), static_cast<int32_t>(pool.size()));
  if (max_tokens > max_tokens_ || max_rows > max_rows_) {
    max_tokens_ = std::max(max_tokens, max_tokens_);
    max_rows_ = std::max(max_rows, max_rows_);
    arena_ = Arena();  // the old one is freed first
    arena_ = Arena(device_.allocate(model_.arena_bytes(max_tokens_, max_rows_)));
  }
  sequences_.assign(capacities.size(), {});
  max_blocks_ = 1;
  for (size_t s = 0; s < capacities.size(); ++s) {
    const auto count = static_cast<int32_t>(blocks_of(capacities[s], block_tokens_));
    max_blocks_ = std::max(max_blocks_, count);
    sequences_[s].blocks.assign(pool.end() - count, pool.end());
    pool.resize(pool.size() - static_cast<size_t>(count));
  }
}

Tensor SequenceRunner::step(std::span<const Piece> pieces, const HiddenObserver& observer) {
  ids_.clear();
  positions_.clear();
  context_.clear();
  table_.clear();
  rows_.clear();
  start_ = {0};
  for (const Piece& piece : pieces) append(piece);
  ERNE_CHECK(std::cmp_less_equal(ids_.size(), max_tokens_) &&
             std::cmp_less_equal(rows_.size(), max_rows_));
  arena_.reset();
  Ctx ctx{device_, arena_};
  const Batch batch{ids_, positions_, start_, context_, table_, max_blocks_, rows_};
  const Tensor logits = device_.to_host(model_.forward(ctx, batch, cache_, observer));
  if (!device_.own_free_bytes()) return logits;
  // What the device copies out lasts until it is asked again, perhaps by another runner.
  logits_.assign(logits.ptr<float>(), logits.ptr<float>() + logits.elements());
  return {logits_.data(), DType::kF32, logits.shape};
}

void SequenceRunner::append(const Piece& piece) {
  Sequence& sequence = sequences_.at(piece.sequence);
  const auto count = static_cast<int64_t>(piece.ids.size());
  ERNE_CHECK(count >= 1 && piece.num_rows >= 0 && piece.num_rows <= count);
  ERNE_CHECK(std::cmp_less_equal(blocks_of(sequence.length + count, block_tokens_),
                                 sequence.blocks.size()));
  ids_.insert(ids_.end(), piece.ids.begin(), piece.ids.end());
  for (int64_t i = 0; i < count; ++i)
    positions_.push_back(static_cast<int32_t>(sequence.length + i));
  sequence.length += count;
  start_.push_back(static_cast<int32_t>(ids_.size()));
  context_.push_back(static_cast<int32_t>(sequence.length));
  table_.insert(table_.end(), sequence.blocks.begin(), sequence.blocks.end());
  table_.resize(static_cast<size_t>(max_blocks_) * context_.size(), 0);
  for (int64_t i = piece.num_rows; i > 0; --i)
    rows_.push_back(static_cast<int32_t>(static_cast<int64_t>(ids_.size()) - i));
}

uint64_t SequenceRunner::bytes(const TextModel& model, Device& device, int block_tokens,
                               std::span<const int64_t> capacities, int64_t max_tokens,
                               int64_t max_rows) {
  check_block_tokens(block_tokens);
  const auto blocks = static_cast<uint64_t>(total_blocks(capacities, block_tokens));
  return blocks * device.kv_block_bytes(model.kv_spec(block_tokens)) +
         model.arena_bytes(max_tokens, max_rows);
}

}  // namespace erne
