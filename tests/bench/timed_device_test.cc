// The decorator's counts against hand counts on a tiny golden, that it changes no bit, and the
// picture and tables made of them.
#include "bench/timed_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "base/json.h"
#include "bench/roofline_plot.h"
#include "bench/step_profile.h"
#include "cpu/cpu_device.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/text_model.h"

namespace erne::bench {
namespace {

using testing::HasSubstr;
using testing::Not;

const std::filesystem::path kCases = std::filesystem::path(ERNE_TESTS_DIR) / "goldens" / "text";

/// One sequence of `ids.size()` tokens from position 0, logits of the last.
struct Prompt {
  std::vector<int32_t> ids = {5, 9, 2, 7, 11};
  std::vector<int32_t> positions = {0, 1, 2, 3, 4};
  std::vector<int32_t> query_start = {0, 5}, context_len = {5}, block_table = {0}, rows = {4};
  Batch batch() const { return {ids, positions, query_start, context_len, block_table, 1, rows}; }
};

struct Loaded {
  explicit Loaded(const char* name)
      : checkpoint(Checkpoint::open(kCases / name)),
        config(checkpoint->config()),
        model(TextModel::load(checkpoint, *device, {DType::kF32, false})) {}

  std::vector<float> logits(Device& through) const {
    const Prompt prompt;
    KvCache cache = through.make_kv_cache(model->kv_spec(16), 1);
    Arena arena(through.allocate(model->arena_bytes(5, 1)));
    Ctx ctx{through, arena};
    const Tensor out = model->forward(ctx, prompt.batch(), cache);
    return {out.ptr<float>(), out.ptr<float>() + out.elements()};
  }

  std::unique_ptr<Device> device = make_cpu_device(1);
  std::shared_ptr<const Checkpoint> checkpoint;
  TextConfig config;
  std::unique_ptr<TextModel> model;
};

OpRate of(const std::vector<OpCall>& calls, Op op) {
  for (const OpRate& rate : add_up(calls)) {
    if (rate.op == op) return rate;
  }
  return {};
}

TEST(TimedDevice, CountsTheDenseModelByHand) {
  const Loaded m("dense-tied");
  TimedDevice timed(*m.device);
  EXPECT_EQ(m.logits(timed), m.logits(*m.device));
  const std::vector<OpCall> costs = timed.take();
  const auto layers = static_cast<double>(m.config.num_layers);
  const auto hidden = static_cast<double>(m.config.hidden_size);
  const auto width = static_cast<double>(m.config.intermediate_size);
  const auto q = static_cast<double>(m.config.q_size());
  const auto kv = static_cast<double>(m.config.kv_size());
  const double tokens = 5;

  EXPECT_EQ(of(costs, Op::kQkv).flops, layers * 2 * tokens * hidden * (q + 2 * kv));
  EXPECT_EQ(of(costs, Op::kO).flops, layers * 2 * tokens * hidden * q);
  EXPECT_EQ(of(costs, Op::kGateUp).flops, layers * 2 * tokens * hidden * 2 * width);
  EXPECT_EQ(of(costs, Op::kDown).flops, layers * 2 * tokens * hidden * width);
  EXPECT_EQ(of(costs, Op::kLmHead).flops, 2 * hidden * static_cast<double>(m.config.vocab_size));
  EXPECT_EQ(of(costs, Op::kAttention).flops, layers * 4 * (1 + 2 + 3 + 4 + 5) * q);
  EXPECT_EQ(of(costs, Op::kAttention).bytes, layers * 4 * tokens * (2 * kv + 2 * q));
  EXPECT_EQ(of(costs, Op::kEmbed).calls, 1);
  EXPECT_EQ(of(costs, Op::kEmbed).flops, 0);
  EXPECT_EQ(of(costs, Op::kNormRope).calls, 3 * m.config.num_layers + 1);
  EXPECT_EQ(of(costs, Op::kRouter).calls, 0);
  EXPECT_EQ(of(costs, Op::kExperts).calls, 0);
  for (const Op op : {Op::kQkv, Op::kO, Op::kGateUp, Op::kDown, Op::kAttention}) {
    EXPECT_EQ(of(costs, op).calls, m.config.num_layers) << op_name(op);
    EXPECT_GT(of(costs, op).seconds, 0) << op_name(op);
  }
  EXPECT_EQ(of(timed.take(), Op::kQkv).calls, 0);  // taken
}

TEST(TimedDevice, ALinearReadsItsWeightInputAndResult) {
  const std::unique_ptr<Device> device = make_cpu_device(1);
  TimedDevice timed(*device);
  const std::vector<float> rows(24 * 32, 0.5F), bias(24, 1.0F);
  const MatrixView view{rows.data(), DType::kF32, 24, 32, 32, 1};
  const Linear w = timed.pack_linear(std::span(&view, 1), DType::kF32, LinearKind::kPlain, bias);
  std::vector<float> x(3 * 32, 1.0F), y(3 * 24);
  timed.linear({x.data(), DType::kF32, {3, 32}}, w, Epilogue::kStore,
               {y.data(), DType::kF32, {3, 24}});
  EXPECT_EQ(y.back(), 17.0F);
  const std::vector<OpCall> costs = timed.take();
  const OpRate cost = of(costs, Op::kQkv);
  EXPECT_EQ(cost.flops, 2.0 * 3 * 24 * 32);
  EXPECT_GE(w.bytes(), sizeof(float) * (24 * 32 + 24));
  EXPECT_EQ(cost.bytes, static_cast<double>(w.bytes() + sizeof(float) * (3 * 32 + 3 * 24)));
}

TEST(TimedDevice, CountsChosenExpertsOnly) {
  const Loaded m("moe");
  TimedDevice timed(*m.device);
  EXPECT_EQ(m.logits(timed), m.logits(*m.device));
  const std::vector<OpCall> costs = timed.take();
  int moe_layers = 0;
  for (int l = 0; l < m.config.num_layers; ++l) moe_layers += m.config.is_moe_layer(l) ? 1 : 0;
  ASSERT_GT(moe_layers, 0);
  const auto hidden = static_cast<double>(m.config.hidden_size);
  const double slots = 5.0 * m.config.moe_top_k;
  const auto width = static_cast<double>(m.config.moe_intermediate_size);
  EXPECT_EQ(of(costs, Op::kRouter).calls, moe_layers);
  EXPECT_EQ(of(costs, Op::kRouter).flops, moe_layers * 2 * 5 * hidden * m.config.num_experts);
  EXPECT_EQ(of(costs, Op::kExperts).calls, 3 * moe_layers);
  EXPECT_EQ(of(costs, Op::kExperts).flops,
            moe_layers * (2 * slots * hidden * 3 * width + 2 * slots * hidden));
  // At most every expert's weights, at least those of one token's.
  const double one = static_cast<double>(
      m.device->linear_bytes(2 * m.config.moe_intermediate_size, m.config.hidden_size, DType::kF32,
                             LinearKind::kGateUp) +
      m.device->linear_bytes(m.config.hidden_size, m.config.moe_intermediate_size, DType::kF32,
                             LinearKind::kPlain));
  const double moved =
      moe_layers * 4 *
      (5 * hidden + 2 * slots * width + 2 * slots * hidden + 5 * hidden);  // inputs and results
  const double weights = of(costs, Op::kExperts).bytes - moved;
  EXPECT_GE(weights, moe_layers * one * m.config.moe_top_k);
  EXPECT_LE(weights, moe_layers * one * m.config.num_experts);
}

/// Every opened element is closed in order, attributes are quoted, nothing is left unescaped.
void expect_well_formed(const std::string& xml) {
  std::vector<std::string> open;
  for (size_t at = 0; at < xml.size(); ++at) {
    if (xml[at] != '<') continue;
    const size_t end = xml.find('>', at);
    ASSERT_NE(end, std::string::npos);
    const std::string tag = xml.substr(at + 1, end - at - 1);
    ASSERT_EQ(tag.find('<'), std::string::npos) << tag;
    ASSERT_EQ(std::count(tag.begin(), tag.end(), '"') % 2, 0) << tag;
    if (tag.starts_with('/')) {
      ASSERT_FALSE(open.empty());
      ASSERT_EQ(tag.substr(1), open.back());
      open.pop_back();
    } else if (!tag.ends_with('/')) {
      open.push_back(tag.substr(0, tag.find(' ')));
    }
    at = end;
  }
  EXPECT_TRUE(open.empty());
  for (size_t at = xml.find('&'); at != std::string::npos; at = xml.find('&', at + 1)) {
    EXPECT_TRUE(xml.compare(at, 5, "&amp;") == 0 || xml.compare(at, 4, "&lt;") == 0 ||
                xml.compare(at, 4, "&gt;") == 0);
  }
}

Roofline machine() {
  Roofline roofline{"A & B <C>", 512, {}};
  roofline.points = {{1, 10, {{"generic", 20, 0, 0}}},
                     {2, 20, {{"generic", 40, 0, 0}, {"fast", 400, 800, 0}, {"twin", 401, 0, 0}}}};
  return roofline;
}

TEST(StepProfileTest, TablesAndPictureHoldEveryOperation) {
  for (const char* name : {"dense-bias", "moe"}) {
    const Loaded m(name);
    const Roofline roofline = machine();
    std::vector<StepProfile> steps;
    for (StepShape shape : usual_shapes(m.config)) {
      EXPECT_LE(shape.context, m.config.max_position_embeddings);
      shape.context = 24;
      shape.tokens = std::min<int64_t>(shape.tokens, 24);
      steps.push_back(profile_step(*m.model, *m.device, shape, roofline.points.back(), 2));
    }
    ASSERT_EQ(steps.size(), 3U);
    const std::string svg = roofline_svg(roofline, steps, "a<b");
    expect_well_formed(svg);
    EXPECT_THAT(svg, HasSubstr("a&lt;b on A &amp; B &lt;C&gt;, 2 threads"));
    EXPECT_THAT(svg, HasSubstr("memory: 20.0 GB/s"));
    EXPECT_THAT(svg, HasSubstr(">fast, twin f32<"));
    const std::string table = to_table(steps);
    const Json json = Json::parse(to_json(steps));
    for (size_t i = 0; i < steps.size(); ++i) {
      EXPECT_THAT(svg, HasSubstr(steps[i].shape.name));
      double share = 0;
      for (const OpRate& r : steps[i].ops) {
        const std::string op(op_name(r.op));
        EXPECT_THAT(table, HasSubstr(op));
        const std::string label = ">" + op + "</text>";
        EXPECT_EQ(svg.find(label) != std::string::npos, r.flops > 0) << op;
        EXPECT_LE(r.limit_gflops, 800);
        share += r.seconds / steps[i].seconds;
      }
      EXPECT_NEAR(share, 1, 1e-9);
      EXPECT_EQ(json[i]["operations"].size(), steps[i].ops.size());
      EXPECT_EQ(json[i]["sequences"].get<int>(), i == 1 ? 16 : 1);
    }
    // Sixteen sequences share the weights: the same FLOPs a sequence, less bytes.
    const auto qkv = [](const StepProfile& s) {
      return std::find_if(s.ops.begin(), s.ops.end(), [](auto& r) { return r.op == Op::kQkv; });
    };
    EXPECT_EQ(qkv(steps[1])->flops, 16 * qkv(steps[0])->flops);
    EXPECT_GT(qkv(steps[1])->intensity(), 4 * qkv(steps[0])->intensity());
  }
}

TEST(StepProfileTest, TheMachineAloneIsAPictureToo) {
  const std::string svg = roofline_svg(machine(), {}, "");
  expect_well_formed(svg);
  EXPECT_THAT(svg, HasSubstr(">generic f32<"));
  EXPECT_THAT(svg, Not(HasSubstr("<circle")));
}

}  // namespace
}  // namespace erne::bench
