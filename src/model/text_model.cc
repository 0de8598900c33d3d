// The decoder as ops calls; follows spec text.md 3 line by line. Layers are in text_layer.cc,
// loading is in text_weights.cc.
#include "model/text_model.h"

#include <numeric>

#include "base/error.h"
#include "base/log.h"
#include "device/null_device.h"
#include "model/checkpoint.h"
#include "model/kv_scales.h"
#include "model/packed_weights.h"
#include "model/text_layer.h"
#include "model/text_weights.h"
#include "ops/ops.h"
#include "quant/kv_codes.h"

namespace erne {
namespace {

// Fixed scales of one layer's KV cache.
struct LayerKv {
  std::vector<float> key_factor, key_out, value_factor, value_out;

  KvChannels channels() const {
    return {key_factor.data(), key_out.data(), value_factor.data(), value_out.data()};
  }
};

std::vector<LayerKv> fixed_kv(const Checkpoint& checkpoint, DType cache) {
  if (checkpoint.kv_absmax().empty()) return {};
  if (cache != DType::kI8 && cache != DType::kF8E4M3) {
    log::info("the checkpoint's KV scales are for 8 bits: a KV cache of {} does without them",
              dtype_name(cache));
    return {};
  }
  const float largest = cache == DType::kI8 ? 127.0F : 448.0F;
  std::vector<LayerKv> layers;
  for (const KvAbsmax& absmax : checkpoint.kv_absmax()) {
    LayerKv& layer = layers.emplace_back();
    for (const float x : absmax.keys) {
      layer.key_factor.push_back(kv_scale(x, largest).factor);
      layer.key_out.push_back(kv_scale(x, largest).out);
    }
    for (const float x : absmax.values) {
      layer.value_factor.push_back(kv_scale(x, largest).factor);
      layer.value_out.push_back(kv_scale(x, largest).out);
    }
  }
  return layers;
}

}  // namespace

DType resolve_cache_dtype(const Checkpoint& checkpoint, const LoadOptions& options) {
  const std::optional<WeightScheme>& base = options.quantization.base();
  DType cache = options.dtype;
  if (options.cache_dtype) {
    cache = *options.cache_dtype;
  } else if (checkpoint.packed() != nullptr) {
    cache = checkpoint.packed()->cache_dtype;
  } else if (const auto wanted = checkpoint.config().quantization.cache_dtype) {
    cache = *wanted;
  } else if (!checkpoint.kv_absmax().empty() ||
             (base && base->method == WeightScheme::Method::kW4a8)) {
    cache = DType::kI8;
  }
  if (cache == DType::kF32 && options.dtype != DType::kF32) {
    fail(Code::kUnsupported, "a KV cache of float32 needs computation in float32, not {}",
         dtype_name(options.dtype));
  }
  return cache;
}

struct TextModel::State {
  std::shared_ptr<const Checkpoint> checkpoint;
  TextConfig config;
  TextWeights weights;
  DType cache_dtype;
  std::vector<LayerKv> kv;           // with fixed scales
  std::vector<KvChannels> channels;  // of kv
};

TextModel::TextModel(std::unique_ptr<State> state) : state_(std::move(state)) {}
TextModel::~TextModel() = default;

std::unique_ptr<TextModel> TextModel::load(std::shared_ptr<const Checkpoint> checkpoint,
                                           Device& device, const LoadOptions& options) {
  auto state = std::make_unique<State>();
  state->cache_dtype = resolve_cache_dtype(*checkpoint, options);
  state->kv = fixed_kv(*checkpoint, state->cache_dtype);
  for (const LayerKv& layer : state->kv) state->channels.push_back(layer.channels());
  state->config = checkpoint->config();
  state->weights = load_text_weights(*checkpoint, device, options);
  state->checkpoint = std::move(checkpoint);
  return std::unique_ptr<TextModel>(new TextModel(std::move(state)));
}

const TextConfig& TextModel::config() const { return state_->config; }
DType TextModel::dtype() const { return state_->weights.dtype; }
uint64_t TextModel::weight_bytes() const { return state_->weights.bytes; }
uint64_t TextModel::mapped_bytes() const {
  return state_->weights.is_mapped ? state_->weights.bytes : 0;
}

KvCacheSpec TextModel::kv_spec(int block_tokens) const {
  const TextConfig& c = state_->config;
  return {c.num_layers, c.kv_heads,          c.head_dim,
          block_tokens, state_->cache_dtype, !state_->kv.empty()};
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
  const LayerStep step{ctx, config, batch, cache, w.dtype, w.inv_freq, state_->channels};
  ctx.device.begin_step(batch);

  const auto num_rows = static_cast<int64_t>(batch.logit_rows.size());
  const Tensor logits = ctx.arena.take(DType::kF32, {num_rows, config.vocab_size});
  const Arena::Mark mark(ctx.arena);
  const Tensor x = ops::embed(ctx, w.embedding, batch.token_ids);
  for (int layer = 0; layer < config.num_layers; ++layer) {
    if (observer) observer(layer, ctx.device.to_host(x));
    attention(step, w.layers[static_cast<size_t>(layer)], layer, x);
    feed_forward(step, w.layers[static_cast<size_t>(layer)], x);
    if (layer_done) layer_done();
  }
  if (observer) {
    const Tensor last = ops::rms_norm(ctx, x, w.norm, config.rms_norm_eps, DType::kF32);
    observer(config.num_layers, ctx.device.to_host(last));
  }
  if (num_rows > 0) {
    const Tensor h = ops::rms_norm(ctx, x, w.norm, config.rms_norm_eps, w.dtype, batch.logit_rows);
    ops::linear_into(ctx, h, w.lm_head, logits);
  }
  return logits;
}

}  // namespace erne
