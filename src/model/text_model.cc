// The decoder as ops calls; follows spec text.md 3 line by line. Layers are in text_layer.cc,
// loading is in text_weights.cc.
#include "model/text_model.h"

#include <numeric>

#include "base/error.h"
#include "device/null_device.h"
#include "model/checkpoint.h"
#include "model/text_layer.h"
#include "model/text_weights.h"
#include "ops/ops.h"

namespace erne {
namespace {

DType cache_dtype(const LoadOptions& options) {
  const DType cache = options.cache_dtype.value_or(options.dtype);
  if (cache == DType::kF32 && options.dtype != DType::kF32) {
    fail(Code::kUnsupported, "a KV cache of float32 needs computation in float32, not {}",
         dtype_name(options.dtype));
  }
  return cache;
}

}  // namespace

struct TextModel::State {
  std::shared_ptr<const Checkpoint> checkpoint;
  TextConfig config;
  TextWeights weights;
  DType cache_dtype;
};

TextModel::TextModel(std::unique_ptr<State> state) : state_(std::move(state)) {}
TextModel::~TextModel() = default;

std::unique_ptr<TextModel> TextModel::load(std::shared_ptr<const Checkpoint> checkpoint,
                                           Device& device, const LoadOptions& options) {
  auto state = std::make_unique<State>();
  state->cache_dtype = cache_dtype(options);
  state->config = checkpoint->config();
  state->weights = load_text_weights(*checkpoint, device, options);
  state->checkpoint = std::move(checkpoint);
  return std::unique_ptr<TextModel>(new TextModel(std::move(state)));
}

const TextConfig& TextModel::config() const { return state_->config; }
DType TextModel::dtype() const { return state_->weights.dtype; }
uint64_t TextModel::weight_bytes() const { return state_->weights.bytes; }

KvCacheSpec TextModel::kv_spec(int block_tokens) const {
  const TextConfig& c = state_->config;
  return {c.num_layers, c.kv_heads, c.head_dim, block_tokens, state_->cache_dtype};
}

size_t TextModel::arena_bytes(int64_t num_tokens, int64_t num_logit_rows) const {
  ERNE_CHECK(num_tokens >= 1 && num_logit_rows >= 0 && num_logit_rows <= num_tokens);
  const std::vector<int32_t> zeros(static_cast<size_t>(num_tokens));
  std::vector<int32_t> rows(static_cast<size_t>(num_logit_rows));
  std::iota(rows.begin(), rows.end(), 0);
  const int32_t count = static_cast<int32_t>(num_tokens);
  const std::vector<int32_t> query_start = {0, count};
  const std::vector<int32_t> context_len = {count};
  const Batch batch{zeros, zeros, query_start, context_len, zeros, 1, rows};
  NullDevice device;
  Arena arena = Arena::counting();
  Ctx ctx{device, arena};
  KvCache cache{kv_spec(16), 1, {}};
  forward(ctx, batch, cache);
  return arena.high_water();
}

Tensor TextModel::forward(Ctx& ctx, const Batch& batch, KvCache& cache,
                          const HiddenObserver& observer, const LayerDone& layer_done) const {
  const TextConfig& config = state_->config;
  const TextWeights& w = state_->weights;
  const LayerStep step{ctx, config, batch, cache, w.dtype, w.inv_freq};

  const auto num_rows = static_cast<int64_t>(batch.logit_rows.size());
  const Tensor logits = ctx.arena.take(DType::kF32, {num_rows, config.vocab_size});
  const Arena::Mark mark(ctx.arena);
  const Tensor x = ops::embed(ctx, w.embedding, batch.token_ids);
  for (int layer = 0; layer < config.num_layers; ++layer) {
    if (observer) observer(layer, x);
    attention(step, w.layers[static_cast<size_t>(layer)], layer, x);
    feed_forward(step, w.layers[static_cast<size_t>(layer)], x);
    if (layer_done) layer_done();
  }
  if (observer)
    observer(config.num_layers, ops::rms_norm(ctx, x, w.norm, config.rms_norm_eps, DType::kF32));
  if (num_rows > 0) {
    const Tensor h = ops::rms_norm(ctx, x, w.norm, config.rms_norm_eps, w.dtype, batch.logit_rows);
    ops::linear_into(ctx, h, w.lm_head, logits);
  }
  ctx.device.synchronize();
  return logits;
}

}  // namespace erne
