#include "engine/runner.h"

#include <algorithm>

#include "base/error.h"
#include "base/rng.h"
#include "model/text_model.h"
#include "ops/ctx.h"

namespace erne {

Batch BatchBuilder::build(std::span<const Piece> pieces) {
  token_ids_.clear();
  positions_.clear();
  query_start_.assign(1, 0);
  context_len_.clear();
  logit_rows_.clear();
  size_t max_blocks = 0;
  for (const Piece& piece : pieces)
    max_blocks = std::max(max_blocks, piece.sequence->blocks.size());
  block_table_.assign(pieces.size() * max_blocks, 0);
  for (size_t s = 0; s < pieces.size(); ++s) {
    const Sequence& sequence = *pieces[s].sequence;
    const auto begin = static_cast<int32_t>(sequence.computed);
    const int32_t end = begin + pieces[s].count;
    const std::span<const int32_t> tokens = sequence.tokens();
    token_ids_.insert(token_ids_.end(), tokens.begin() + begin, tokens.begin() + end);
    for (int32_t position = begin; position < end; ++position) positions_.push_back(position);
    const auto num_tokens = static_cast<int32_t>(token_ids_.size());
    for (int32_t row = pieces[s].num_rows; row > 0; --row) logit_rows_.push_back(num_tokens - row);
    query_start_.push_back(num_tokens);
    context_len_.push_back(end);
    std::copy(sequence.blocks.begin(), sequence.blocks.end(),
              block_table_.begin() + static_cast<ptrdiff_t>(s * max_blocks));
  }
  return {token_ids_,   positions_,   query_start_,
          context_len_, block_table_, static_cast<int32_t>(max_blocks),
          logit_rows_};
}

// --- a real model

ModelRunner::ModelRunner(const TextModel& model, Device& device, KvCache cache, int64_t max_tokens,
                         int64_t max_rows)
    : model_(model), device_(device), cache_(std::move(cache)) {
  reserve(max_tokens, max_rows);
}

void ModelRunner::reserve(int64_t num_tokens, int64_t num_rows) {
  if (num_tokens <= max_tokens_ && num_rows <= max_rows_) return;
  const int64_t tokens = std::max(num_tokens, max_tokens_);
  const int64_t rows = std::max(num_rows, max_rows_);
  const size_t bytes = model_.arena_bytes(std::max(tokens, rows), rows);
  // The old one is freed first, so until the new one is there this runner can hold nothing: if the
  // allocation throws, the next step reserves again.
  arena_ = Arena();
  max_tokens_ = max_rows_ = 0;
  arena_ = Arena(device_.allocate(bytes));
  max_tokens_ = tokens;
  max_rows_ = rows;
}

Tensor ModelRunner::run(const Batch& batch) {
  reserve(batch.num_tokens(), static_cast<int64_t>(batch.logit_rows.size()));
  arena_.reset();
  Ctx ctx{device_, arena_};
  const LayerDone layer_done = [this] {
    progress_s_.store(clock_.now_s(), std::memory_order_relaxed);
  };
  return model_.forward(ctx, batch, cache_, {}, layer_done);
}

Tensor ModelRunner::forward(const Batch& batch) { return device_.to_host(run(batch)); }

std::span<const int32_t> ModelRunner::draw(const Batch& batch, std::span<const Draw> draws,
                                           std::span<const LogitEdit> edits) {
  logits_ = run(batch);
  const auto ids = device_.draw(logits_, draws, edits);
  progress_s_.store(clock_.now_s(), std::memory_order_relaxed);
  return ids;
}

Tensor ModelRunner::drawn_rows(int64_t first, int64_t count) {
  const int64_t vocab = logits_.dim(1);
  return device_.to_host({logits_.ptr<float>() + first * vocab, DType::kF32, {count, vocab}});
}

int64_t ModelRunner::vocab_size() const { return model_.config().vocab_size; }

// --- a hash

namespace {

uint64_t mix(uint64_t hash, int32_t token) {
  const auto x = philox(hash, 0, static_cast<uint64_t>(static_cast<uint32_t>(token)));
  return uint64_t{x[0]} << 32 | x[1];
}

}  // namespace

HashRunner::HashRunner(int64_t vocab_size, int32_t num_blocks, int page_size, Reads reads,
                       Logits logits)
    : vocab_(vocab_size), page_(page_size), reads_(reads), kind_(logits) {
  slots_.resize(static_cast<size_t>(num_blocks) * static_cast<size_t>(page_size));
}

HashRunner::Slot& HashRunner::slot(const Batch& batch, int64_t sequence, int64_t position) {
  const int32_t block =
      batch.block_table[static_cast<size_t>(sequence * batch.max_blocks + position / page_)];
  return slots_[static_cast<size_t>(block * page_ + position % page_)];
}

void HashRunner::write_logits(uint64_t hash, float* row) {
  if (kind_ == Logits::kOneHot) {
    const auto id = static_cast<size_t>(hash % static_cast<uint64_t>(vocab_));
    row[id] = 16;
    hot_.push_back(static_cast<size_t>(row + id - logits_.data()));
    return;
  }
  for (int64_t v = 0; v < vocab_; ++v) {
    row[v] = static_cast<float>(philox_uniform(hash, 1, static_cast<uint64_t>(v)) * 8 - 4);
  }
}

Tensor HashRunner::forward(const Batch& batch) {
  const auto num_rows = static_cast<int64_t>(batch.logit_rows.size());
  for (const size_t at : hot_) logits_[at] = 0;
  hot_.clear();
  logits_.resize(std::max(logits_.size(), static_cast<size_t>(num_rows * vocab_)));
  size_t row = 0;
  for (int64_t s = 0; s < batch.num_sequences(); ++s) {
    const int32_t begin = batch.query_start[static_cast<size_t>(s)];
    const int32_t end = batch.query_start[static_cast<size_t>(s) + 1];
    for (int32_t t = begin; t < end; ++t) {
      const int64_t position = batch.positions[static_cast<size_t>(t)];
      Slot& here = slot(batch, s, position);
      here.token = batch.token_ids[static_cast<size_t>(t)];
      here.hash = mix(position > 0 ? slot(batch, s, position - 1).hash : 0, here.token);
      if (row == batch.logit_rows.size() || batch.logit_rows[row] != t) continue;
      uint64_t hash = here.hash;
      if (reads_ == Reads::kWholeContext) {
        hash = 0;
        for (int64_t p = 0; p <= position; ++p) hash = mix(hash, slot(batch, s, p).token);
      }
      write_logits(hash, logits_.data() + static_cast<int64_t>(row) * vocab_);
      ++row;
    }
  }
  return {logits_.data(), DType::kF32, {num_rows, vocab_}};
}

}  // namespace erne
