#include "model/hidden_states.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "model/checkpoint.h"
#include "ops/ops.h"

namespace erne {
namespace {

constexpr int64_t kPieceTokens = 512;
constexpr int kBlockTokens = 16;

// What one piece takes from the arena at most: h, and beside it attention, an MLP or the experts.
size_t piece_bytes(const TextConfig& c) {
  const int64_t attention = 2 * c.q_size() + 2 * c.kv_size();
  int64_t wide = c.intermediate_size;
  if (c.is_moe()) {
    const int64_t experts = c.moe_top_k * (c.moe_intermediate_size + c.hidden_size + 4);
    wide = std::max(wide, experts + c.num_shared_experts * c.moe_intermediate_size);
  }
  const int64_t values = c.hidden_size + std::max(attention, wide);
  constexpr size_t kEnds = 16 * 64;  // rounding up to cache lines
  return static_cast<size_t>(kPieceTokens * values + c.num_experts + 1) * sizeof(float) + kEnds;
}

}  // namespace

HiddenStates::HiddenStates(const Checkpoint& checkpoint, Device& device,
                           std::span<const std::vector<int32_t>> samples, DType dtype)
    : config_(checkpoint.config()),
      device_(device),
      samples_(samples),
      dtype_(dtype),
      inv_freq_(device.upload(rope_inv_freq(config_.head_dim, config_.rope_theta))),
      arena_(Buffer::host(piece_bytes(config_))) {
  size_t longest = 0;
  for (const std::vector<int32_t>& sample : samples) {
    num_tokens_ += static_cast<int64_t>(sample.size());
    longest = std::max(longest, sample.size());
  }
  stream_ = Buffer::host(static_cast<size_t>(num_tokens_ * config_.hidden_size) * sizeof(float));
  const auto blocks = static_cast<int32_t>((longest + kBlockTokens - 1) / kBlockTokens);
  cache_ =
      device.make_kv_cache({1, config_.kv_heads, config_.head_dim, kBlockTokens, dtype}, blocks);
  const Embedding table = device.pack_embedding(
      checkpoint.matrix("model.embed_tokens.weight", config_.vocab_size, config_.hidden_size));
  for_sequences([&](const LayerStep& step, const Tensor& x) {
    const Tensor rows = ops::embed(step.ctx, table, step.batch.token_ids);
    std::memcpy(x.data, rows.data, x.bytes());
  });
}

void HiddenStates::for_sequences(
    const std::function<void(const LayerStep& step, const Tensor& x)>& body) {
  std::vector<int32_t> table(static_cast<size_t>(cache_.num_blocks));
  std::iota(table.begin(), table.end(), 0);
  auto* x = stream_.as<float>();
  for (const std::vector<int32_t>& sample : samples_) {
    std::vector<int32_t> positions(sample.size());
    std::iota(positions.begin(), positions.end(), 0);
    const auto total = static_cast<int64_t>(sample.size());
    for (int64_t first = 0; first < total; first += kPieceTokens) {
      const int64_t count = std::min(kPieceTokens, total - first);
      const auto at = static_cast<size_t>(first);
      const auto size = static_cast<size_t>(count);
      const std::vector<int32_t> starts = {0, static_cast<int32_t>(count)};
      const std::vector<int32_t> context = {static_cast<int32_t>(first + count)};
      const Batch batch{std::span(sample).subspan(at, size),
                        std::span(positions).subspan(at, size),
                        starts,
                        context,
                        table,
                        cache_.num_blocks,
                        {}};
      arena_.reset();
      Ctx ctx{device_, arena_};
      body({ctx, config_, batch, cache_, dtype_, inv_freq_},
           {x, DType::kF32, {count, config_.hidden_size}});
      device_.synchronize();
      x += count * config_.hidden_size;
    }
  }
}

void HiddenStates::for_rows(std::span<const float> norm, std::span<const int32_t> rows,
                            const std::function<void(Ctx& ctx, const Tensor& h)>& body) {
  const Buffer weight = device_.upload(norm);
  const Tensor x{stream_.data(), DType::kF32, {num_tokens_, config_.hidden_size}};
  for (size_t first = 0; first < rows.size(); first += kPieceTokens) {
    arena_.reset();
    Ctx ctx{device_, arena_};
    const auto piece = rows.subspan(first, std::min<size_t>(kPieceTokens, rows.size() - first));
    const Tensor h = ops::rms_norm(ctx, x, weight, config_.rms_norm_eps, dtype_, piece);
    device_.synchronize();
    body(ctx, h);
    device_.synchronize();
  }
}

void HiddenStates::run(LayerHalf half, const LayerWeights& weights) {
  for_sequences([&](const LayerStep& step, const Tensor& x) {
    if (half == LayerHalf::kAttention) {
      attention(step, weights, 0, x);
    } else {
      feed_forward(step, weights, x);
    }
  });
}

}  // namespace erne
