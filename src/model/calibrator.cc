#include "model/calibrator.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "base/thread_pool.h"
#include "model/checkpoint.h"
#include "model/quantized_rows.h"
#include "ops/ops.h"

namespace erne {
namespace {

// Inputs that AWQ's search looks at, of every linear, and of every expert.
constexpr int64_t kSamples = 128;
constexpr int64_t kExpertSamples = 32;

std::string layer_prefix(int layer) { return fmt::format("model.layers.{}.", layer); }

// `count` of the rows at most, evenly spread.
std::vector<int32_t> spread(std::span<const int32_t> rows, size_t count) {
  if (rows.size() <= count) return {rows.begin(), rows.end()};
  std::vector<int32_t> some;
  for (size_t i = 0; i < count; ++i) some.push_back(rows[i * rows.size() / count]);
  return some;
}

void check_samples(const CalibrationOptions& options, const TextConfig& config) {
  int64_t tokens = 0;
  for (size_t i = 0; i < options.samples.size(); ++i) {
    const std::vector<int32_t>& sample = options.samples[i];
    tokens += static_cast<int64_t>(sample.size());
    if (std::cmp_greater(sample.size(), config.max_position_embeddings)) {
      fail(Code::kInvalidArgument, "calibration sample {} has {} tokens, the model's context {}", i,
           sample.size(), config.max_position_embeddings);
    }
    for (const int32_t id : sample) {
      if (id >= 0 && id < config.vocab_size) continue;
      fail(Code::kInvalidArgument, "calibration sample {} has token id {}; the model has 0 to {}",
           i, id, config.vocab_size - 1);
    }
  }
  if (tokens < options.min_rows) {
    fail(Code::kInvalidArgument, "the calibration text has {} tokens; at least {} are needed",
         tokens, options.min_rows);
  }
}

const CalibrationOptions& checked(const CalibrationOptions& options, const TextConfig& config) {
  check_samples(options, config);
  return options;
}

}  // namespace

// An MLP with the tokens that come to it.
struct Calibrator::Mlp {
  MlpPlace place;
  std::vector<int32_t> rows;
  bool is_expert = false;
};

// One of the linears that share their inputs.
struct Calibrator::Consumer {
  std::string name;
  int64_t rows;
  const Scales* output_scale = nullptr;  // divides them: the next linear's scale
};

Calibrator::Calibrator(const Checkpoint& checkpoint, const CalibrationPlan& plan,
                       const CalibrationOptions& options, ThreadPool& pool, Finished finished)
    : checkpoint_(checkpoint),
      config_(checkpoint.config()),
      plan_(plan),
      options_(checked(options, config_)),
      pool_(pool),
      finished_(std::move(finished)),
      states_(checkpoint, *options.device, options.samples, options.dtype),
      all_rows_(static_cast<size_t>(states_.num_tokens())) {
  load_.dtype = options.dtype;
  std::iota(all_rows_.begin(), all_rows_.end(), 0);
}

// Runs what lies before a layer, which nobody asked for: as it is finished, or calibrated too.
void Calibrator::advance(int index) {
  ERNE_CHECK(index >= next_ && index <= config_.num_layers, "layer {} after {}", index, next_);
  for (; next_ < index; ++next_) {
    if (const auto overlay = finished_(next_)) {
      run(LayerHalf::kAttention, *overlay);
      run(LayerHalf::kFeedForward, *overlay);
    } else {
      calibrate_layer();
    }
  }
}

void Calibrator::calibrate_layer() {
  current_ = {};
  calibrate_attention();
  calibrate_feed_forward();
}

const CalibratedTensors& Calibrator::layer(int index) {
  advance(index);
  calibrate_layer();
  ++next_;
  return current_;
}

const CalibratedTensors& Calibrator::head() {
  advance(config_.num_layers);
  current_ = {};
  InputStatistics inputs(*options_.device, config_.hidden_size, states_.num_tokens(), 0);
  states_.for_rows(checkpoint_.vector("model.norm.weight", config_.hidden_size), all_rows_,
                   [&](Ctx&, const Tensor& h) { inputs.add(h); });
  const Consumer head{"lm_head.weight", config_.vocab_size};
  calibrate({&head, 1}, inputs, {});
  return current_;
}

void Calibrator::run(LayerHalf half, const WeightOverlay& overlay) {
  states_.run(half, load_layer_half(checkpoint_, *options_.device, load_, next_, half, overlay));
}

AwqLinear Calibrator::awq_linear(const std::string& name, int64_t rows, int64_t cols,
                                 std::span<const float> samples) const {
  return {checkpoint_.matrix(name, rows, cols), samples, *plan_.rounding(name)};
}

// The tensor with its rows divided, or its columns multiplied, by the scale.
void Calibrator::fold(const std::string& name, int64_t rows, int64_t cols, const Scales& scale,
                      bool divide) {
  std::vector<float> numbers(static_cast<size_t>(rows * cols));
  const MatrixView view = checkpoint_.matrix(name, rows, cols);
  for (int64_t r = 0; r < rows; ++r) read_row_f32(view, r, numbers.data() + r * cols);
  for (size_t i = 0; i < numbers.size() && !scale.empty(); ++i) {
    const float s = scale[i % scale.size()];
    numbers[i] = divide ? numbers[i] / s : numbers[i] * s;
  }
  current_.overlay.numbers[name] = std::move(numbers);
}

void Calibrator::calibrate(std::span<const Consumer> consumers, InputStatistics& inputs,
                           const Scales& input_scale) {
  const bool enough = inputs.rows() >= options_.min_rows;
  std::optional<GptqSolver> solver;
  for (const Consumer& consumer : consumers) {
    const std::optional<WeightScheme> scheme = plan_.scheme(consumer.name);
    if (!scheme) continue;
    const bool tied_head = consumer.name == "lm_head.weight" && config_.tie_word_embeddings;
    const MatrixView weights = checkpoint_.matrix(
        tied_head ? "model.embed_tokens.weight" : consumer.name, consumer.rows, inputs.inputs());
    const std::optional<Rounding> rounding = integer_rounding(*scheme);
    if (!rounding) {
      current_.overlay.codes[consumer.name] = quantize_rows(weights, *scheme);
      continue;
    }
    try {
      if (!solver && plan_.gptq() && enough)
        solver.emplace(inputs.hessian(input_scale), inputs.inputs(), GptqOptions{}, &pool_);
    } catch (const Error& e) {
      fail(e.code(), "{}: {}", consumer.name, e.what());
    }
    CalibrationJob job{weights, *scheme, *rounding, input_scale, {}};
    if (consumer.output_scale != nullptr) job.output_scale = *consumer.output_scale;
    if (solver) job.solver = &*solver;
    if (inputs.rows() > 0) job.inputs = &inputs;
    CalibratedLinear linear = calibrate_linear(job, pool_);
    const bool scaled = !job.input_scale.empty() || !job.output_scale.empty();
    linear.output.method = scaled ? (solver ? "awq+gptq" : "awq") : (solver ? "gptq" : "rtn");
    current_.overlay.codes[consumer.name] = linear.codes;
    current_.linears[consumer.name] = std::move(linear);
  }
}

void Calibrator::calibrate_attention() {
  const std::string prefix = layer_prefix(next_);
  const std::string attn = prefix + "self_attn.";
  const int64_t hidden = config_.hidden_size;
  const int64_t q = config_.q_size();
  const int64_t kv = config_.kv_size();
  const std::string q_name = attn + "q_proj.weight";
  const std::string k_name = attn + "k_proj.weight";
  const std::string v_name = attn + "v_proj.weight";
  const std::string o_name = attn + "o_proj.weight";

  InputStatistics inputs(*options_.device, hidden, states_.num_tokens(), kSamples);
  InputStatistics outputs(*options_.device, q, states_.num_tokens(), kSamples);
  {
    const LayerWeights exact =
        load_layer_half(checkpoint_, *options_.device, load_, next_, LayerHalf::kAttention);
    states_.for_sequences([&](const LayerStep& step, const Tensor& x) {
      const Tensor h =
          ops::rms_norm(step.ctx, x, exact.input_norm, config_.rms_norm_eps, step.dtype);
      const Tensor o = attention_outputs(step, exact.attention.qkv, 0, h);
      step.ctx.device.synchronize();
      inputs.add(h);
      outputs.add(o);
    });
  }
  Scales input_scale;
  if (plan_.folds_input_norm(next_)) {
    const std::vector<AwqLinear> linears = {awq_linear(q_name, q, hidden, inputs.samples()),
                                            awq_linear(k_name, kv, hidden, inputs.samples()),
                                            awq_linear(v_name, kv, hidden, inputs.samples())};
    input_scale = awq_scales(linears, pool_).s;
    fold(prefix + "input_layernorm.weight", 1, hidden, input_scale, true);
  }
  Scales o_scale;
  if (plan_.folds_v(next_)) {
    const AwqLinear o = awq_linear(o_name, hidden, q, outputs.samples());
    o_scale = awq_scales({&o, 1}, pool_).s;
    if (config_.use_bias) fold(attn + "v_proj.bias", 1, kv, o_scale, true);
  }
  calibrate(std::vector<Consumer>{{q_name, q}, {k_name, kv}, {v_name, kv, &o_scale}}, inputs,
            input_scale);
  calibrate(std::vector<Consumer>{{o_name, hidden}}, outputs, o_scale);
  run(LayerHalf::kAttention, current_.overlay);
}

void Calibrator::calibrate_feed_forward() {
  const std::string prefix = layer_prefix(next_);
  const std::string norm_name = prefix + "post_attention_layernorm.weight";
  const std::vector<float> norm = checkpoint_.vector(norm_name, config_.hidden_size);
  const std::vector<Mlp> mlps = routed_mlps(norm);
  Scales scale;
  if (plan_.folds_post_norm(next_)) {
    scale = post_norm_scales(mlps, norm);
    fold(norm_name, 1, config_.hidden_size, scale, true);
    if (config_.is_moe_layer(next_))
      fold(prefix + "mlp.gate.weight", config_.num_experts, config_.hidden_size, scale, false);
  }
  for (const Mlp& mlp : mlps) calibrate_mlp(mlp, norm, scale);
  run(LayerHalf::kFeedForward, current_.overlay);
}

// The MLPs of the layer with their tokens; experts in front.
std::vector<Calibrator::Mlp> Calibrator::routed_mlps(std::span<const float> norm) {
  std::vector<Mlp> mlps;
  for (MlpPlace& place : plan_.mlps(next_)) mlps.push_back({std::move(place), {}, false});
  if (!config_.is_moe_layer(next_)) {
    mlps.front().rows = all_rows_;
    return mlps;
  }
  const std::string prefix = layer_prefix(next_) + "mlp.";
  const auto experts = static_cast<size_t>(config_.num_experts);
  if (mlps.size() > experts) mlps.back().rows = all_rows_;
  std::vector<float> gate(experts * static_cast<size_t>(config_.hidden_size));
  const MatrixView view =
      checkpoint_.matrix(prefix + "gate.weight", config_.num_experts, config_.hidden_size);
  for (int64_t e = 0; e < config_.num_experts; ++e)
    read_row_f32(view, e, gate.data() + e * config_.hidden_size);
  const std::vector<float> bias =
      checkpoint_.vector(prefix + "moe_statics.e_score_correction_bias", config_.num_experts);
  const Tensor weight{gate.data(), DType::kF32, {config_.num_experts, config_.hidden_size}};
  int32_t first = 0;
  states_.for_rows(norm, all_rows_, [&](Ctx& ctx, const Tensor& h) {
    const Routing r =
        ops::route(ctx, h, {&weight, bias.data(), config_.moe_top_k, config_.moe_norm_min});
    ctx.device.synchronize();
    for (size_t e = 0; e < experts; ++e) {
      mlps[e].is_expert = true;
      for (int32_t slot = r.expert_start[e]; slot < r.expert_start[e + 1]; ++slot)
        mlps[e].rows.push_back(first + r.slot_token[slot]);
    }
    first += static_cast<int32_t>(h.dim(0));
  });
  return mlps;
}

// One scale for everything that reads the norm: each expert speaks for the tokens that it gets.
Calibrator::Scales Calibrator::post_norm_scales(const std::vector<Mlp>& mlps,
                                                std::span<const float> norm) {
  std::vector<std::vector<float>> samples(mlps.size());
  std::vector<AwqLinear> linears;
  for (size_t i = 0; i < mlps.size(); ++i) {
    const Mlp& mlp = mlps[i];
    const std::vector<int32_t> rows =
        spread(mlp.rows, static_cast<size_t>(mlp.is_expert ? kExpertSamples : kSamples));
    states_.for_rows(norm, rows, [&](Ctx&, const Tensor& h) {
      const size_t before = samples[i].size();
      samples[i].resize(before + static_cast<size_t>(h.elements()));
      convert_to_f32(h.ptr<std::byte>(), h.dtype, samples[i].data() + before,
                     static_cast<size_t>(h.elements()));
    });
    for (const char* name : {"gate_proj.weight", "up_proj.weight"}) {
      linears.push_back(
          awq_linear(mlp.place.prefix + name, mlp.place.width, config_.hidden_size, samples[i]));
      if (!rows.empty())
        linears.back().weight =
            static_cast<double>(mlp.rows.size()) / static_cast<double>(rows.size());
    }
  }
  return awq_scales(linears, pool_).s;
}

void Calibrator::calibrate_mlp(const Mlp& mlp, std::span<const float> norm,
                               const Scales& input_scale) {
  const auto num_rows = static_cast<int64_t>(mlp.rows.size());
  const int64_t hidden = config_.hidden_size;
  const int64_t width = mlp.place.width;
  const std::string& prefix = mlp.place.prefix;
  InputStatistics inputs(*options_.device, hidden, num_rows, 0);
  InputStatistics acts(*options_.device, width, num_rows, kSamples);
  if (num_rows > 0) {
    const MlpWeights exact = load_mlp(checkpoint_, *options_.device, load_, mlp.place);
    states_.for_rows(norm, mlp.rows, [&](Ctx& ctx, const Tensor& h) {
      const Tensor act = ops::gated_linear(ctx, h, exact.gate_up);
      ctx.device.synchronize();
      inputs.add(h);
      acts.add(act);
    });
  }
  Scales down_scale;
  if (plan_.folds_up(mlp.place) && num_rows >= options_.min_rows) {
    const AwqLinear down = awq_linear(prefix + "down_proj.weight", hidden, width, acts.samples());
    down_scale = awq_scales({&down, 1}, pool_).s;
  }
  if (plan_.folds_up(mlp.place) && mlp.place.has_bias)
    fold(prefix + "up_proj.bias", 1, width, down_scale, true);
  calibrate(std::vector<Consumer>{{prefix + "gate_proj.weight", width},
                                  {prefix + "up_proj.weight", width, &down_scale}},
            inputs, input_scale);
  calibrate(std::vector<Consumer>{{prefix + "down_proj.weight", hidden}}, acts, down_scale);
}

}  // namespace erne
